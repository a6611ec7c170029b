"""One thread: these tensors are small, and two threads that wait for each other on a busy machine
took twenty times as long. Tests about threads choose their own number."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
