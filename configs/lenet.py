"""LeNet-5 with batch normalisation, after LeCun et al. 1998 (http://yann.lecun.com/exdb/lenet/).

    python train.py --config=configs/lenet.py   the bundled digits
    python train.py --config=configs/lenet.py:mnist
    python train.py --config=configs/lenet.py:cifar10,model=convnet_bn

MNIST: twenty epochs of SGD. LeCun et al. publish 99.05 % without and 99.2 % with distortions
(http://yann.lecun.com/exdb/mnist/) for their net, which has neither ReLU nor batch normalisation;
this one is not measured yet.

ImageNet: nobody trains LeNet on it. The recipe, torchvision's defaults on images of 64 pixels, is
there for photographs of one's own; no accuracy is published.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, choose, upsampled


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS
        | upsampled(16)
        | {"model.name": "lenet5_bn", "optimizer.learning_rate": 0.05},
        small=SMALL
        | {"model.name": "lenet5_bn", "data.image_size": 28, "optimizer.learning_rate": 0.05},
        imagenet={"v1": TORCHVISION | {"model.name": "lenet5_bn", "data.image_size": 64}},
    )
