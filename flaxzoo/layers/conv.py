from jax import lax
def conv2d(x, kernel, *, stride, padding, dilation=(1, 1), groups=1):
    return lax.conv_general_dilated(x, kernel, stride, padding, rhs_dilation=dilation, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups)
