"""Continuous-depth (Neural-ODE) backbones. Importing this package registers its models in timm."""

from odebackbones.errors import InputError
from odebackbones.fields import freeze_norms
from odebackbones.models import ODEResNet
from odebackbones.stages import ODEBlock, solver_stats

__all__ = ["InputError", "ODEBlock", "ODEResNet", "freeze_norms", "solver_stats"]
