"""PyTorch's own layers, and those of torch_modules.py, on a GPU. They have not been run on one here.

    kalnorm-ref verify examples.torch_on_cuda:batch_norm_2d

Where PyTorch sees no GPU every case is skipped, and exit code 3 says that too few were run.
"""

from torch import nn

from examples import torch_modules
from kalnorm_ref.oracle.modules import from_module

batch_norm_1d = from_module(nn.BatchNorm1d, "cuda")
batch_norm_2d = from_module(nn.BatchNorm2d, "cuda")
batch_norm_3d = from_module(nn.BatchNorm3d, "cuda")
group_norm = from_module(nn.GroupNorm, "cuda")
batch_renorm = from_module(torch_modules.BatchRenorm, "cuda")
kalman_norm = from_module(torch_modules.kalman, "cuda")
