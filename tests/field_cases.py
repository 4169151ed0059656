"""Features and fields for the tests of fields and norms."""

import torch


def features(seed=0, channels=6, batch=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(batch, channels, 5, 5, generator=generator, dtype=dtype) + 0.5


def randomize(module, seed=0):
    """Give every parameter and running statistic a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module
