"""Networks of the experiments: small or as published, the norm layer chosen by the caller.

Every network takes ``norm``, which makes a layer for a number of channels (``nn.BatchNorm2d``,
``batchnorm.BatchNorm2d``, a group norm), or None: then convolutions have a bias instead. The
starting weights depend on ``seed`` only, and torch's global generator is neither read nor moved.
"""

from ._convnet import ConvNet as ConvNet
from ._densenet import DenseNet as DenseNet
from ._densenet import densenet121 as densenet121
from ._inception import Inception as Inception
from ._lstm import LstmNet as LstmNet
from ._mlp import Mlp as Mlp
from ._mlp import Placement as Placement
from ._mobilenet_v2 import MobileNetV2 as MobileNetV2
from ._mobilenet_v3 import MobileNetV3 as MobileNetV3
from ._parts import Norm as Norm
from ._resnet import PreActivationResNet as PreActivationResNet
from ._resnet import ResNet as ResNet
from ._resnet import resnet18 as resnet18
from ._resnet import resnet50 as resnet50
from ._sigmoid import ARMS as ARMS
from ._sigmoid import Arm as Arm
from ._sigmoid import SigmoidNet as SigmoidNet
from ._unet import UNet as UNet
