"What every test leaves as it was."
import pytest
from torch.distributions import Distribution


@pytest.fixture(autouse=True)
def validation_as_before():
    "The validation of distributions, which `torch.compile` turns off for the whole process."
    before = Distribution._validate_args
    yield
    Distribution.set_default_validate_args(before)
