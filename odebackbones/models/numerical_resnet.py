r"""ResNets that correspond to other numerical methods, with separate weights for every step.

With K weights on K equal steps, :math:`f_n(x) = f(t_n, x)` is a separate branch for every step, so that the solver's
formula *is* the network's. The last norms' gains absorb the step lengths.

Y. Lu, A. Zhong, Q. Li, B. Dong: Beyond Finite Layer Neural Networks: Bridging Deep Architectures and Numerical
Differential Equations, ICML 2018, arXiv:1710.10121
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import Bottleneck

from odebackbones.models.default_cfg import default_cfg_like
from odebackbones.models.ode_resnet import ODEResNet

LAYERS = (3, 4, 6, 3)
REPLACED = tuple(blocks - 1 for blocks in LAYERS)
NAMES = ("lm_resnet50", "poly_resnet50", "fractal_resnet50", "rev_resnet50", "augmented_ode_resnet50")

default_cfgs = generate_default_cfgs({name: default_cfg_like("resnet50") for name in NAMES})


def _create(variant: str, pretrained: bool, **kwargs: Any) -> ODEResNet:
    return build_model_with_cfg(ODEResNet, variant, pretrained, **{"block": Bottleneck, "layers": LAYERS, **kwargs})


@register_model
def lm_resnet50(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    r"""LM-ResNet-50, a linear two-step method: :math:`x_{n+1} = (1 - k_n)\,x_n + k_n\,x_{n-1} + h f_n(x_n)`.

    The :math:`k_n` are learned. Lu et al. 2018, section 3, equation 3.
    """
    options = {"solver": "lm", "steps": REPLACED, "bases": REPLACED}
    return _create("lm_resnet50", pretrained, **{**options, **kwargs})


@register_model
def poly_resnet50(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    r"""PolyNet-50, implicit Euler by a truncated series: :math:`x_{n+1} = (I + F_n + F_n^2)(x_n)`, :math:`F = h f`.

    X. Zhang, Z. Li, C. C. Loy, D. Lin: PolyNet: A Pursuit of Structural Diversity in Very Deep Networks, CVPR 2017,
    arXiv:1611.05725: its poly-2. :math:`(I - F)^{-1} = I + F + F^2 + ...` is Lu et al.'s reading of it.
    """
    options = {"solver": "implicit_euler", "degree": 2, "steps": REPLACED, "bases": REPLACED}
    return _create("poly_resnet50", pretrained, **{**options, **kwargs})


@register_model
def fractal_resnet50(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    r"""FractalNet-50, a two-stage Runge-Kutta method: :math:`x_{n+1} = x_n + h g_n(x_n + \frac h 2 f_n(x_n))`.

    G. Larsson, M. Maire, G. Shakhnarovich: FractalNet: Ultra-Deep Neural Networks without Residuals, ICLR 2017,
    arXiv:1605.07648, in Lu et al.'s reading,
    :math:`x_{n+1} = k_1 x_n + k_2 (k_3 x_n + f_n(x_n)) + g_n(k_3 x_n + f_n(x_n))` with :math:`k_1 = k_3 = 1, k_2 = 0`.
    The two branches have separate weights, for the first and the second half of the step.
    """
    options = {"solver": "midpoint", "steps": REPLACED, "bases": tuple(2 * n for n in REPLACED)}
    return _create("fractal_resnet50", pretrained, **{**options, **kwargs})


@register_model
def rev_resnet50(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    r"""RevNet-50, the leapfrog method: :math:`y_1 = x_1 + F_n(x_2),\ y_2 = x_2 + F_{n+1}(y_1)`, run backward exactly.

    A. N. Gomez, M. Ren, R. Urtasun, R. B. Grosse: The Reversible Residual Network, NeurIPS 2017, arXiv:1707.04585, with
    :math:`x_1 = x_{n-1}, x_2 = x_n, F = 2 h f`: B. Chang et al.: Reversible Architectures for Arbitrarily Deep Residual
    Neural Networks, AAAI 2018, arXiv:1709.03698. The pair consists of whole states, whereas RevNet halves the channels.
    """
    options = {"solver": "leapfrog", "gradient": "reversible", "steps": REPLACED, "bases": REPLACED}
    return _create("rev_resnet50", pretrained, **{**options, **kwargs})


@register_model
def augmented_ode_resnet50(pretrained: bool = False, **kwargs: Any) -> ODEResNet:
    r"""ODE-ResNet-50 with 16 more channels in its states: :math:`\frac{d}{dt}(x, a) = f(t, x, a)`, :math:`a(0) = 0`.

    E. Dupont, A. Doucet, Y. W. Teh: Augmented Neural ODEs, NeurIPS 2019, arXiv:1904.01681
    """
    return _create("augmented_ode_resnet50", pretrained, **{"augment": 16, **kwargs})
