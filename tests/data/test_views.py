"""Images as rows."""

import pytest
import torch

from repgeom.data import views


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_principal_coordinates_keep_distances_that_fit() -> None:
    images = torch.randint(0, 255, (30, 4, 4), generator=generator(), dtype=torch.uint8).numpy()
    z, flat = views.principal(images, 16), torch.from_numpy(images.reshape(30, -1)).float()
    ratio = torch.pdist(z) / torch.pdist(flat)
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-4, atol=0)
    assert float(z.std()) == pytest.approx(1, rel=1e-5) and bool((z.var(0).diff() < 1e-5).all())


def test_digits_are_centred_and_labelled() -> None:
    x, y = views.digits()
    assert x.dtype == torch.float32 and y.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert float(x.mean(0).abs().max()) < 1e-6 and float(x.max() - x.min()) <= 2.0
