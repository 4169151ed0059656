import pytest
import torch
from tool_runs import train_small


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As in the processes that the tests start: results are compared bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The working directory of a finished run called ``small``."""
    folder = tmp_path_factory.mktemp("trained")
    train_small(folder, "small")
    return folder
