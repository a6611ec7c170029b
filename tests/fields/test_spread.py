import torch
from torch.testing import assert_close

from itk_ncr.fields import RunningSpread


def test_the_spread_is_that_of_all_fields_at_once():
    generator = torch.Generator().manual_seed(0)
    fields = 1e3 + torch.randn(7, 2, 3, 5, 6, generator=generator, dtype=torch.float64)
    spread = RunningSpread()
    for field in fields:
        spread.add(field)
    assert spread.count == 7
    assert_close(spread.mean, fields.mean(0))
    assert_close(spread.deviation(), fields.var(0).sum(1, keepdim=True).sqrt())
