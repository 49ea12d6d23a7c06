"What every test leaves as it was."
import warnings

import pytest
from torch.distributions import Distribution


@pytest.fixture(autouse=True)
def validation_as_before(request):
    "A test that leaves the validation of distributions changed is named, and harms no later one."
    before = Distribution._validate_args
    yield
    if Distribution._validate_args != before:
        Distribution.set_default_validate_args(before)
        warnings.warn(f"{request.node.name} left the validation of distributions changed",
                      stacklevel=1)
