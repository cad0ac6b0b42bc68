"""`flaxzoo explain`: a picture of what a prediction rests on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flaxzoo.cli import prepare_jax
from flaxzoo.commands import common
from flaxzoo.explain import draw, explain_file
from flaxzoo.picture import check_ending, write
from flaxzoo.trained import load_trained, read_class_names


def run(arguments: Sequence[str]) -> None:
    """Draws Grad-CAM over an image."""
    parser = common.parser(
        "explain",
        "Draws where in an image the evidence for a class is, by Grad-CAM (Selvaraju et al. 2016): "
        "the channels of a feature map, weighted with the mean gradient of the class's logit. "
        "Convolutional nets, Swin, MaxViT: the positions of the last map. ViT, Mixer, ResMLP, "
        "gMLP: the patches, laid out as in the image, of the last map whose patches reach the "
        "logit; in ViT one before the last block, behind which only the class token does. "
        "The picture is as large as the image; what the model's centre crop leaves out is paler.",
        ["cat.jpg --model runs/pets", "cat.jpg --model resnet50 --class 281 --stage layer3"],
    )
    parser.add_argument("image", metavar="IMAGE")
    common.add_model(parser)
    parser.add_argument(
        "--class", dest="class_", metavar="NAME|INDEX",
        help="what to explain: a name, or else a number from 0; default: the predicted class",
    )  # fmt: skip
    parser.add_argument("--stage", default="", metavar="NAME", help="default: the deepest")
    parser.add_argument("--out", default="explained.png", metavar="FILE.png")
    parser.add_argument(
        "--image-size", type=common.positive(int), default=0, metavar="PIXELS",
        help="default: that of the run or of the published weights",
    )  # fmt: skip
    parsed = parser.parse_args(arguments)
    check_ending(parsed.out)
    prepare_jax()
    trained = load_trained(parsed.model, kind=parsed.weights or "", image_size=parsed.image_size)
    if parsed.classes:
        names = read_class_names(Path(parsed.classes), trained.model.num_classes)
        trained = dataclasses.replace(trained, classes=names)
    index = None if parsed.class_ is None else trained.class_index(parsed.class_)
    path = Path(parsed.image)
    explanation = explain_file(trained, path, index=index, stage=parsed.stage)
    write(draw(trained, path, explanation), Path(parsed.out))
    name = trained.class_name(explanation.index)
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"class {name}, {explanation.probability:.1%}, at {explanation.stage}", markup=False
    )
    if not explanation.heat.any():
        console.print("nothing in this map speaks for the class", markup=False)
    console.print(f"wrote {parsed.out}", markup=False)
