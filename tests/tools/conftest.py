import pytest
from tool_runs import train_small


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The working directory of a finished run called ``small``."""
    folder = tmp_path_factory.mktemp("trained")
    train_small(folder, "small")
    return folder
