"""`csv=PATH`: which column is what, where the images are, and a sentence for what is ambiguous."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flaxzoo import data
from flaxzoo.errors import UserError

ANIMALS = ("cat", "dog", "emu")


@pytest.fixture
def root(tmp_path, save_image) -> Path:
    """A folder with images/{a0 .. a5}.jpg; image i is 10 + i wide, and of ANIMALS[i % 3]."""
    for i in range(6):
        save_image(tmp_path / "set" / "images" / f"a{i}.png", i, (10 + i, 8))
    return tmp_path / "set"


def table(
    root: Path, header: str = "image,label", row: str = "a{i}.png,{animal}", name: str = "train.csv"
) -> Path:
    """Writes a row for each image, the last image first."""
    rows = [
        row.format(i=i, animal=ANIMALS[i % 3], number=i % 3, split="trian" if i == 2 else "train")
        for i in range(5, -1, -1)
    ]
    (root / name).write_text("\n".join([header, *rows]) + "\n")
    return root / name


def load(path: Path | str, **options) -> data.Dataset:
    return data.load(f"csv={path}", validation=0, **options)


def check(dataset: data.Dataset, classes: tuple[str, ...] = ANIMALS) -> None:
    assert dataset.classes == classes
    assert [dataset.train[i].shape[1] for i in range(6)] == [15, 14, 13, 12, 11, 10]
    assert dataset.train.labels.tolist() == [2, 1, 0, 2, 1, 0]


def test_images_are_in_the_order_of_the_table(root):
    dataset = load(table(root))
    check(dataset)
    assert (dataset.name, dataset.channels) == ("train.csv", 3)
    np.testing.assert_array_equal(dataset.train[0], np.asarray(Image.open(root / "images/a5.png")))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("id,breed", "a{i},{animal}"),  # without the extension
        ("image_id,age,sex,target", "a{i},3,f,{animal}"),
        (",filename,class", "{i},a{i}.png,{animal}"),  # as pandas writes its index
        ("class id,filepaths,labels", "{number},images/a{i}.png,{animal}"),
        ("Label;File Name", "{animal};a{i}.png"),
        ("path\tcategory", "./images/a{i}.png\t{animal}"),
        ("photo,label", "a{i}.png,{animal}"),
        ('"image","label"', '"a{i}.png", {animal} '),
        ("\ufeffimage,label", "a{i}.png,{animal}"),
        ("id,img_path,y,id2", "{number},..\\set\\images\\a{i}.png,{animal},0"),
        ("image,label", "a{i}.png,{animal}\n"),
        ("image,label", "a{i}.png,{animal}\r"),
    ],
)
def test_columns_are_known_by_their_names(root, header, row):
    check(load(table(root, header, row)))


def test_columns_can_be_said(root):
    path = table(root, "lesion_id,image_id,dx,dx_type", "{number},a{i},{animal},histo")
    check(load(f"{path},label=dx"))
    path = table(root, "name,id,the kind", "x,a{i},{animal}")
    check(load(f"{path},image=id,label=the kind"))


def test_a_path_with_a_comma_is_no_option(root):
    check(load(table(root, name="a,label=b.csv")))


def test_whole_numbers_are_sorted_by_value(root):
    path = table(root, row="a{i}.png,{number}0{number}")
    assert load(path).classes == ("000", "101", "202")
    path.write_text(path.read_text().replace("101", "9"))
    assert load(path).classes == ("000", "9", "202")


def test_a_split_column_splits(root):
    path = table(root, "image,label,data set", "a{i}.png,{animal},train")
    rows = path.read_text().splitlines()
    extra = ["a0.png,cat,valid", "a1.png,dog,Test", "a2.png,emu,test"]
    path.write_text("\n".join([*rows[:4], *extra]))
    dataset = load(path)
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [3, 1, 2]
    assert dataset.test.labels.tolist() == [1, 2]
    assert dataset.test.name(1).endswith("/images/a2.png")


def test_a_set_that_is_no_split_is_ignored(root):
    check(load(table(root, "image,label,dataset", "a{i}.png,{animal},vienna")))


def test_a_folder_with_one_table_is_enough(root):
    table(root)
    check(load(root))


def test_a_common_folder_tells_files_of_one_name_apart(root):
    shutil.copytree(root / "images", root / "more" / "images")
    (root / "images" / "a1.png").unlink()
    dataset = load(table(root))
    assert dataset.train.name(0) == f"{root}/more/images/a5.png"


def test_the_folder_of_the_table_comes_first(root, save_image):
    shutil.copytree(root / "images", root / "thumbnails" / "images")
    check(load(table(root, row="images/a{i}.png,{animal}")))


def test_images_may_lie_in_parts(root):
    (root / "part_2").mkdir()
    for i in (3, 4):
        (root / "images" / f"a{i}.png").rename(root / "part_2" / f"a{i}.png")
    check(load(table(root)))


def test_a_file_of_the_whole_name_is_meant_before_one_with_another_extension(root):
    shutil.copy(root / "images" / "a0.png", root / "images" / "a0.png.jpg")
    check(load(table(root)))


def test_absolute_paths_are_found(root):
    check(load(table(root, row=f"{root}/images/a{{i}}.png,{{animal}}")))


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
def test_the_images_may_be_elsewhere(root, tmp_path, form):
    path = table(tmp_path)
    where = root / "images" if form == "folder" else shutil.make_archive(str(root), form, root)
    check(load(path, data_dir=where))


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("a,b,c", "a{i}.png,{animal},x", "no column known for the images; say which with csv=.*"
         ",image=COLUMN, of its first row: a, b, c"),
        ("image,b,c", "a{i}.png,{animal},x", "no column known for the labels; say which with"),
        ("image,label,class", "a{i}.png,{animal},x", "label and class for the labels; say which"),
        ("image,file,label", "a{i}.png,x,{animal}", "image and file for the images; say which"),
        ("image,image,label", "a{i}.png,x,{animal}", "two columns of one name .*: image, image"),
        ("image,label", "a{i}.png,{animal},x", "row 2 of .* has 3 fields; expected 2, as in its"),
        ("image,label", "a{i}.png,", "row 2 of .* has no label"),
        ("image,label", ",{animal}", "row 2 of .* has no image"),
        ("image,label", "a{i}.png,{i}", "label of .* is another in every row; expected classes"),
        ("image,label", "a1.png,{animal}", "gives a1.png the labels emu and dog; expected one"),
        ("image,label", "b{i}.png,{animal}", "6 of the 6 images in .* are not below .*/set, such "
         "as b5.png; expected data_dir to be the folder"),
        ("image,label,split", "a{i}.png,{animal},{split}", "split in column split .*'trian'; did"),
        ("image,label,split", "a{i}.png,{animal},test", "column split of .* has no row to train"),
        ("image,label", "", "is empty; expected a header, then an image"),
    ],
)  # fmt: skip
def test_a_slip_is_explained(root, header, row, message):
    with pytest.raises(UserError, match=message):
        load(table(root, header, row))


def test_a_column_that_does_not_exist_gets_near_misses(root):
    path = table(root, "image,breed,x", "a{i}.png,{animal},0")
    with pytest.raises(UserError, match=r"unknown column of .*'bred'; did you mean 'breed'\?"):
        load(f"{path},label=bred")


@pytest.mark.parametrize("second", ["images/a3.jpg", "other/a3.png"])
def test_an_image_that_is_there_twice_is_named(root, second):
    (root / second).parent.mkdir(exist_ok=True)
    shutil.copy(root / "images" / "a3.png", root / second)
    for i in range(6) if second.startswith("other") else ():
        shutil.copy(root / "images" / f"a{i}.png", root / "other" / f"a{i}.png")
    path = table(root, row="a{i},{animal}")
    with pytest.raises(
        UserError, match=r"has several files for a\d in .*; expected data_dir to be"
    ):
        load(path)


def test_several_tables_are_listed(root):
    table(root), table(root, name="test.csv")
    with pytest.raises(
        UserError, match=rf"2 csv files; expected csv={root}/test.csv or csv={root}"
    ):
        load(root)
    with pytest.raises(UserError, match="has 0 csv files; expected csv=PATH of a file"):
        load(root / "images")


@pytest.mark.parametrize("content", [b"", b"image,label\n", b"\n\n"])
def test_an_empty_table_is_named(root, content):
    (root / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"train\.csv is empty; expected a header"):
        load(root / "train.csv")


def test_what_is_no_text_is_refused(root):
    (root / "train.csv").write_bytes(b"image,label\n\xff\xfe,x\n")
    with pytest.raises(UserError, match=r"cannot read .*train\.csv as csv in UTF-8"):
        load(root / "train.csv")
    with pytest.raises(UserError, match=r"no such file: .*gone\.csv"):
        load(root / "gone.csv")
    (root / "train.csv").write_text("image,label\n" + "x" * 200_000 + ",y\n")
    with pytest.raises(UserError, match="field larger than field limit"):
        load(root / "train.csv")


def test_a_data_dir_that_does_not_exist_is_named(root):
    with pytest.raises(UserError, match=r"no such folder or archive: .*gone"):
        load(table(root), data_dir=os.path.join(root, "gone"))


def test_an_unreadable_image_is_named(root):
    (root / "images" / "a5.png").write_text("corrupt")
    with pytest.raises(UserError, match=r"cannot read image .*/images/a5\.png: not an image"):
        load(table(root)).train[0]
