"""The encoders' table: what stands in it, against counts made otherwise."""

import pytest
import timm

from benchmarks.depth.encoders import ALIKE, GROUPS, VGG, Encoder, measure, table, table_alike
from engine.measure.profile import count_parameters

SMALL = {
    "vgg11_bn": Encoder("vgg11_bn"),
    "vgg11_bn, norms folded": Encoder("vgg11_bn", folded=True),
    "ode_vgg11": Encoder("ode_vgg11"),
}


def test_every_comparison_has_what_is_replaced_first_and_controls():
    for reference, group in GROUPS.items():
        assert next(iter(group)) == reference == group[reference].name
        assert any(encoder.name.startswith("ode_") for encoder in group.values())
        assert any(row.startswith("control") for row in group)
    assert {*ALIKE, *ALIKE.values()} <= GROUPS[VGG].keys()


@pytest.mark.slow
def test_encoders_are_measured():
    found = measure(SMALL, (64, 64), rounds=1)
    rows = {row[0]: dict(zip(table("", found).columns, row, strict=True)) for row in table("", found).rows}
    vgg, ode = rows["vgg11_bn"], rows["ode_vgg11"]
    plain = timm.create_model("vgg11_bn", features_only=True)
    assert vgg["parameters [M]"] == count_parameters(plain) / 1e6
    # 3x3 convolutions of C to D channels at 64 px and, after every pooling, half of that
    channels = [(3, 64, 64), (64, 128, 32), (128, 256, 16), (256, 256, 16), (256, 512, 8), (512, 512, 8)]
    macs = sum(9 * c * d * side**2 for c, d, side in [*channels, (512, 512, 4), (512, 512, 4)])
    assert vgg["MACs [G]"] == pytest.approx(macs / 1e9)
    assert (vgg["NFE"], ode["NFE"]) == ("-", "4 4 4")
    ratios = [
        value for name, value in zip(table("", found).columns, table("", found).rows[0], strict=True) if name == "ratio"
    ]
    assert ratios == [1.0] * 5
    assert found["ode_vgg11"]["activations"] < found["vgg11_bn"]["activations"]


def test_ratios_of_like_with_like_are_of_each_others_figures():
    figures = dict.fromkeys(("parameters", "MACs", "latency", "activations"), 2.0)
    found = {row: {name: value * (i + 1) for name, value in figures.items()} for i, row in enumerate(GROUPS[VGG])}
    order = list(GROUPS[VGG])
    first = table_alike("", found).rows[0]
    assert first[0] == "ode_vgg16 of vgg16"
    assert first[1:] == ((order.index("ode_vgg16") + 1) / (order.index("vgg16") + 1),) * 4
