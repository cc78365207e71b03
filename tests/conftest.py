"""Fixtures of all tests: memory that was never written is NaN, one thread, both kernels."""

import contextlib
import os

import hypothesis
import pytest
import torch

from tests.kernels import Kernels, has_native

# Without a GPU, Triton's kernels run in its interpreter. Triton reads this where a function is
# decorated, its own functions included: before anything imports it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

_common = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.differing_executors,
    ],
}
hypothesis.settings.register_profile(
    "ci", derandomize=True, database=None, max_examples=40, **_common
)
hypothesis.settings.register_profile("search", max_examples=1000, **_common)
# torch's test tools load a profile of their own when they are imported: let them do it first.
with contextlib.suppress(ImportError):
    import torch.testing._internal.common_utils
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def nan_filled_memory():
    """Fill every ``empty`` with NaN below Python, where kernels allocate too."""
    before = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before)
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.fixture(autouse=True)
def one_thread():
    """Tests run beside each other: each has one thread unless it asks for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """No test reads or fills the user's cache of datasets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHNORM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=["native", "fallback"], scope="session")
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """The operators by both implementations; without the native library that half is skipped."""
    if request.param == "native" and not has_native():
        reason = "the native library is not built (REQUIRE_NATIVE=1 makes this a failure)"
        if os.environ.get("REQUIRE_NATIVE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return Kernels(request.param)


@pytest.fixture
def native() -> Kernels:
    """The compiled operators; skipped without them."""
    if not has_native():
        if os.environ.get("REQUIRE_NATIVE") == "1":
            pytest.fail("the native library is not built")
        pytest.skip("the native library is not built")
    return Kernels("native")
