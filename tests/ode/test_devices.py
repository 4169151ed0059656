"""Devices without float64, as Apple's: the CPU plays one."""

from functools import partial

import pytest
import torch
import torchdiffeq
from fields_with_state import by_backprop, numbers, tanh_field

from odebackbones.errors import InputError
from odebackbones.ode import SolverConfig, devices, odeint


@pytest.fixture
def no_float64(monkeypatch):
    monkeypatch.setattr(devices, "WITHOUT_FLOAT64", ("cpu",))


@pytest.mark.filterwarnings("ignore:gradient='adjoint' is not the gradient")
@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
@pytest.mark.parametrize("method", ["dopri5", "euler"])
def test_times_are_float32_there(method, gradient, no_float64, monkeypatch):
    used = []
    for name in ("odeint", "odeint_adjoint"):

        def solve(theirs, field, state, times, **kwargs):
            options = [kwargs["options"], kwargs.get("adjoint_options", {})]
            used.extend([times.dtype, *(option.get("dtype", times.dtype) for option in options)])
            assert "odeint_adjoint" not in str(theirs) or method == "euler" or "dtype" in kwargs["adjoint_options"]
            return theirs(field, state, times, **kwargs)

        monkeypatch.setattr(torchdiffeq, name, partial(solve, getattr(torchdiffeq, name)))
    x = numbers(4, 3).requires_grad_()
    odeint(tanh_field(), x, solver=SolverConfig(method, gradient=gradient)).state.sum().backward()
    assert set(used) == ({torch.float32} if method == "dopri5" or gradient == "adjoint" else set())
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("gradient", ["reversible", "backprop"])
def test_fixed_point_is_refused_there_before_it_starts(gradient, no_float64):
    solver = SolverConfig("alf", 4, "reversible")
    with pytest.raises(InputError, match=r"'cpu' devices lack: take gradient='checkpoint'"):
        odeint(tanh_field(), numbers(4, 3), solver=solver if gradient == "reversible" else by_backprop(solver))
