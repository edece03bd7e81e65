"""Histograms are exact, thresholds are what they claim, and caches are only read when they are whole."""

from __future__ import annotations

import hashlib
import re
import zlib

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from deepgap.build.quantize.cache import check_cache, read_cache, write_cache, write_unsupported_cache
from deepgap.build.quantize.histograms import BINS, PIECE, Histogram, collect_histograms, count_magnitudes
from deepgap.build.quantize.placement import calibrated_tensors
from deepgap.build.quantize.thresholds import (
    CANDIDATES,
    METHODS,
    SMALLEST_THRESHOLD,
    choose_threshold,
    divergences,
    squared_errors,
)
from deepgap.errors import CalibrationError, GraphError, UnsupportedError
from tests.unit.networks import SIZE, images, run_graph, small_graph, write_small_graph

pytestmark = pytest.mark.xdist_group("graphs")

COUNT = 11


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return write_small_graph("resnet18", tmp_path_factory.mktemp("quantize"))


@pytest.fixture(scope="module")
def tensors():
    return calibrated_tensors(small_graph("resnet18"))


def batches(size: int, count: int = COUNT):
    return lambda: (images(COUNT)[start : min(start + size, count)] for start in range(0, count, size))


def collect(graph, tensors, size=8, threads=2, count=COUNT, say=lambda text: None):
    return collect_histograms(graph, tensors, batches(size, count), say, threads)


def digest(histograms: dict[str, Histogram]) -> str:
    text = [(name, h.counts.tobytes(), h.maximum, h.signed) for name, h in histograms.items()]
    return hashlib.sha256(repr(text).encode()).hexdigest()


@pytest.fixture(scope="module")
def histograms(graph, tensors):
    return collect(graph, tensors)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 8, 11])
def test_histograms_depend_on_neither_batches_nor_threads(graph, tensors, histograms, size, threads):
    assert digest(collect(graph, tensors, size, threads)) == digest(histograms)


def test_one_more_image_changes_every_histogram(graph, tensors, histograms):
    fewer = collect(graph, tensors, count=COUNT - 1)
    assert all((fewer[name].counts != histograms[name].counts).any() for name in tensors)


def test_histograms_are_of_the_activations(histograms, tensors):
    assert list(histograms) == tensors
    model = small_graph("resnet18")
    names = ["relu", "layer2.0.downsample.0", "relu_16"]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = dict(zip(names, run_graph(model, images(COUNT), *names), strict=True))
    values["input"] = images(COUNT)
    for name, expected in values.items():
        found = histograms[name]
        assert found.counts.dtype == np.int64 and found.counts.shape == (BINS,)
        assert found.counts.sum() == expected.size
        assert found.maximum == pytest.approx(np.abs(expected).max(), rel=1e-5)
        assert found.signed == bool((expected < 0).any())
        edges = np.linspace(0, np.abs(expected).max(), BINS + 1)
        running = np.cumsum(np.histogram(np.abs(expected), edges)[0])
        # Values within rounding of an edge may fall on either side of it.
        assert np.abs(np.cumsum(found.counts) - running).max() <= 1e-3 * expected.size


def test_magnitudes_are_counted_exactly_across_pieces():
    rng = np.random.default_rng(0)
    bins = rng.integers(0, BINS, 2 * PIECE + 77)
    bins[0] = BINS - 1
    signs = rng.choice([-1, 1], bins.size)
    # Centres of the bins over [0, 16], exact in float32.
    values = (signs * (bins + 0.5) / 128).astype(np.float32).reshape(1, -1)
    np.testing.assert_array_equal(count_magnitudes(values, 16.0), np.bincount(bins, minlength=BINS))


def test_the_maximum_is_in_the_last_bin():
    for maximum in (1.0, 0.1, 3.0, 1e-20, 1e30):
        values = np.array([0, maximum / 3, -maximum], np.float32)
        counts = count_magnitudes(values, float(np.float32(maximum)))
        assert counts[0] == counts[-1] == 1 and counts.sum() == 3


def test_a_dead_tensor_is_all_in_the_first_bin(graph):
    black = np.zeros((2, 3, SIZE, SIZE), np.float32)
    found = collect_histograms(graph, ["input", "relu"], lambda: iter([black]), print)["input"]
    assert found.maximum == 0 and not found.signed
    assert found.counts[0] == found.counts.sum() == black.size


def test_progress_is_told(graph):
    said: list[str] = []
    collect_histograms(graph, ["relu"], lambda: iter([images(64)]), said.append)
    assert said == [
        "calibration, first pass: ranges of 64 images",
        "calibration, second pass: histograms of 64 of 64 images",
    ]


def test_calibrations_that_cannot_be_are_refused(graph, tensors, tmp_path):
    with pytest.raises(CalibrationError, match="got no images"):
        collect_histograms(graph, tensors, lambda: iter([]), print)
    passes = iter([images(2), images(3)])
    with pytest.raises(CalibrationError, match="saw 2 images in its first pass and 3 in its second"):
        collect_histograms(graph, tensors, lambda: iter([next(passes)]), print)
    for poison in (np.nan, np.inf):
        poisoned = images(6)
        poisoned[1, 0, 5, 5] = poison
        with pytest.raises(UnsupportedError, match="is not finite on the calibration images"):
            collect_histograms(graph, tensors, lambda poisoned=poisoned: iter([poisoned]), print)
    with pytest.raises(GraphError, match="does not exist"):
        collect_histograms(tmp_path / "absent.onnx", tensors, batches(8), print)


# Thresholds.


@st.composite
def counted(draw: st.DrawFn) -> np.ndarray:
    """Counts as activations have them: a bulk near zero, a long tail, gaps, and the maximum in the last bin."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["half-normal", "exponential", "uniform", "sparse", "outlier"]))
    size = draw(st.integers(1, 20_000))
    samples = {
        "half-normal": lambda: np.abs(rng.normal(0, BINS / 4, size)),
        "exponential": lambda: rng.exponential(BINS / 12, size),
        "uniform": lambda: rng.uniform(0, BINS, size),
        "sparse": lambda: rng.integers(0, 9, size) * (BINS / 9),
        "outlier": lambda: np.abs(rng.normal(0, BINS / 40, size)),
    }[kind]()
    counts = np.bincount(np.minimum(samples.astype(int), BINS - 1), minlength=BINS)
    counts[-1] += 1
    counts[0] += draw(st.sampled_from([0, 0, 1, 10 * size]))
    return counts


def kl_by_hand(counts: np.ndarray, bins: int) -> float:
    """The divergence as the slides tell it, one candidate at a time."""
    counts = counts.astype(float)
    counts[0] = counts[1]
    reference = counts[:bins].copy()
    reference[-1] += counts[bins:].sum()
    level = np.arange(bins) * 128 // bins
    filled = counts[:bins] > 0
    sums, members = np.bincount(level, weights=counts[:bins]), np.bincount(level, weights=filled)
    candidate = np.where(filled, (sums / np.maximum(members, 1))[level], 0)
    if not candidate.any():
        return np.inf
    return float(entropy(reference / reference.sum(), candidate / candidate.sum()))


SOME = [0, 1, 2, 3, 61, 127, 128, 129, 500, 1000, 1500, 1900, 1917, 1918, 1919, 1920]


@settings(max_examples=40, deadline=None)
@given(counted())
def test_the_divergence_is_that_of_the_slides(counts):
    found = divergences(counts)
    expected = [kl_by_hand(counts, int(CANDIDATES[index])) for index in SOME]
    np.testing.assert_allclose(found[SOME], expected, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(counted())
def test_entropy_takes_the_smallest_divergence_of_all(counts):
    threshold = choose_threshold(Histogram(counts, float(BINS), False), "entropy")
    expected = [kl_by_hand(counts, int(bins)) for bins in CANDIDATES]
    assert kl_by_hand(counts, round(threshold)) == pytest.approx(min(expected), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(counted(), st.floats(1e-3, 1e6), st.sampled_from(sorted(METHODS)))
def test_thresholds_lie_in_the_range_and_scale_with_the_data(counts, maximum, method):
    threshold = choose_threshold(Histogram(counts, maximum, False), method)
    assert 0 < threshold <= maximum
    assert choose_threshold(Histogram(counts, 4 * maximum, True), method) == 4 * threshold


@settings(max_examples=40, deadline=None)
@given(counted())
def test_entropy_does_not_see_how_many_zeros_there_are(counts):
    more = counts.copy()
    more[0] += 10**9
    assert choose_threshold(Histogram(counts, 1.0, False), "entropy") == choose_threshold(
        Histogram(more, 1.0, False), "entropy"
    )


def test_entropy_clips_a_lone_outlier_and_keeps_a_flat_distribution():
    rng = np.random.default_rng(0)
    samples = np.append(np.abs(rng.normal(0, 1, 1_000_000)), 40).astype(np.float32)
    outlier = Histogram(count_magnitudes(samples, 40.0), 40.0, False)
    assert 2.5 < choose_threshold(outlier, "entropy") < 8
    samples = rng.uniform(0, 1, 1_000_000).astype(np.float32)
    maximum = float(samples.max())
    flat = Histogram(count_magnitudes(samples, maximum), maximum, False)
    assert choose_threshold(flat, "entropy") > 0.95


@given(counted(), st.floats(1e-3, 1e30))
@settings(max_examples=20, deadline=None)
def test_max_is_the_maximum(counts, maximum):
    assert choose_threshold(Histogram(counts, maximum, False), "max") == maximum


@given(counted())
@settings(max_examples=40, deadline=None)
def test_the_percentile_is_the_first_edge_with_enough_below_it(counts):
    bins = round(choose_threshold(Histogram(counts, float(BINS), False), "percentile"))
    assert counts[:bins].sum() >= 0.99999 * counts.sum()
    assert counts[: bins - 1].sum() < 0.99999 * counts.sum()


def test_the_percentile_by_hand():
    counts = np.zeros(BINS, np.int64)
    counts[[10, 700, BINS - 1]] = 999_980, 15, 5
    assert choose_threshold(Histogram(counts, float(BINS), False), "percentile") == 701


@given(counted())
@settings(max_examples=10, deadline=None)
def test_mse_takes_the_smallest_error_of_all(counts):
    centres = np.arange(BINS) + 0.5
    errors = []
    for threshold in CANDIDATES:
        scale = threshold / 127
        quantised = scale * np.clip(np.round(centres / scale), -127, 127)
        errors.append(float(np.sum(counts * (centres - quantised) ** 2)))
    np.testing.assert_allclose(squared_errors(counts), errors, rtol=1e-9)
    threshold = choose_threshold(Histogram(counts, float(BINS), False), "mse")
    assert errors[round(threshold) - 128] == pytest.approx(min(errors))


@given(st.sampled_from(sorted(METHODS)), st.integers(0, 10**9))
@settings(deadline=None)
def test_a_dead_tensor_gets_a_small_positive_threshold(method, zeros):
    counts = np.zeros(BINS, np.int64)
    counts[0] = zeros
    assert choose_threshold(Histogram(counts, 0.0, False), method) == SMALLEST_THRESHOLD > 0


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_single_magnitude_is_kept(method):
    counts = np.zeros(BINS, np.int64)
    counts[-1], counts[0] = 5, 10**8 if method != "percentile" else 0
    assert choose_threshold(Histogram(counts, 2.0, False), method) == pytest.approx(2.0, rel=1e-3)


def test_the_methods_differ_on_real_activations(histograms):
    chosen = {method: [choose_threshold(h, method) for h in histograms.values()] for method in METHODS}
    assert all(
        threshold <= histogram.maximum
        for thresholds in chosen.values()
        for threshold, histogram in zip(thresholds, histograms.values(), strict=True)
    )
    assert len({tuple(thresholds) for thresholds in chosen.values()}) == 4


# Caches.


def test_a_cache_is_in_the_format_of_tensorrt(tmp_path):
    path = tmp_path / "new" / "resnet18.cache"
    write_cache(path, {"input": 1.0, "relu": 0.007874016}, "entropy")
    text = "TRT-8501-EntropyCalibration2\ninput: 3f800000\nrelu: 3c010204\n"
    assert path.read_text(encoding="utf-8") == f"{text}deepgap_crc32: {zlib.crc32(text.encode()):08x}\n"
    assert all(re.fullmatch(r"\S+: [0-9a-f]{8}", line) for line in path.read_text(encoding="utf-8").splitlines()[1:])
    write_cache(path, {"input": 1.0}, "mse")
    assert path.read_text(encoding="utf-8").startswith("TRT-8501-MinMaxCalibration\ninput: 3f800000\ndeepgap_crc32: ")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


names = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1).filter(
    lambda name: name != "deepgap_crc32"
)


def test_a_tensor_with_the_name_of_the_checksum_is_refused(tmp_path):
    with pytest.raises(CalibrationError, match="is called deepgap_crc32"):
        write_cache(tmp_path / "scales.cache", {"deepgap_crc32": 1.0}, "max")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(names, st.floats(2.0**-100, 2.0**100, width=32), min_size=1), st.sampled_from(sorted(METHODS)))
def test_a_cache_gives_back_what_was_written(tmp_path_factory, scales, method):
    path = tmp_path_factory.mktemp("cache") / "scales.cache"
    write_cache(path, scales, method)
    assert list(read_cache(path).items()) == list(scales.items())


TEXT = """TRT-8501-EntropyCalibration2
input: 3cf69446
relu_3: 3fc00000
layer2.0.downsample.0: 322bcc77
"""


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "does not begin with a line such as TRT-8501-EntropyCalibration2"),
        ("input: 3cf69446\n", "does not begin with a line such as"),
        ("TRT-8501-EntropyCalibration2\n", "is truncated"),
        (TEXT[:-1], "is truncated"),
        (TEXT[:-4], "is truncated"),
        (TEXT[:-4] + "\n", "has no tensor and eight hex digits in line 4"),
        (TEXT.replace("3fc00000", "3fc0000g"), "in line 3"),
        (TEXT.replace("3fc00000", "3fc0000000"), "in line 3"),
        (TEXT.replace("relu_3: ", ""), "in line 3"),
        (TEXT.replace("relu_3", ""), "in line 3"),
        (TEXT.replace("input: 3cf69446\n", "\n"), "in line 2"),
        (TEXT.replace("relu_3", "input"), "holds the tensor input twice"),
        (TEXT.replace("3fc00000", "00000000"), "has the scale 0.0 for the tensor relu_3"),
        (TEXT.replace("3fc00000", "bfc00000"), "has the scale -1.5 for the tensor relu_3"),
        (TEXT.replace("3fc00000", "7f800000"), "has the scale inf for the tensor relu_3"),
        (TEXT.replace("3fc00000", "7fc00000"), "has the scale nan for the tensor relu_3"),
    ],
)
def test_damaged_caches_are_refused_by_name(tmp_path, content, problem):
    path = tmp_path / "resnet18.cache"
    path.write_text(TEXT, encoding="utf-8")
    assert read_cache(path) == {
        "input": pytest.approx(0.0301),
        "relu_3": 1.5,
        "layer2.0.downsample.0": pytest.approx(1e-8),
    }
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CalibrationError) as caught:
        read_cache(path)
    assert str(path) in str(caught.value) and problem in str(caught.value)


def test_no_flipped_bit_gives_other_scales_to_the_same_tensors(tmp_path):
    """One in the checksum's name makes it a foreign tensor, which `check_cache` refuses."""
    path = tmp_path / "resnet18.cache"
    scales = {"input": 0.0301, "relu_3": 1.5, "layer2.0.downsample.0": 1e-8}
    write_cache(path, scales, "entropy")
    content = path.read_bytes()
    refused = 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert read_cache(path).keys() - scales.keys()
        except CalibrationError as error:
            assert str(error).startswith(f"The calibration cache {path} ")
            refused += 1
    assert refused >= 8 * (len(content) - len("deepgap_crc32"))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("input: 3", "input: 4"),
        lambda text: text.replace("relu_3: 3fc00000\n", ""),
        lambda text: text + "relu_4: 3fc00000\n",
        lambda text: text + text.splitlines(keepends=True)[-1],
        lambda text: text[:-5] + "\n",
    ],
)
def test_an_edited_cache_is_refused_by_its_checksum(tmp_path, change):
    path = tmp_path / "resnet18.cache"
    write_cache(path, {"input": 0.0301, "relu_3": 1.5}, "entropy")
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(CalibrationError) as caught:
        read_cache(path)
    assert str(caught.value) == (
        f"The calibration cache {path} was edited or damaged after it was made (its last line, deepgap_crc32, "
        "does not fit); delete it and run Snakemake again."
    )


def test_a_cache_without_scales_says_why(tmp_path):
    path = tmp_path / "pooled.cache"
    write_unsupported_cache(path, "It holds\nnothing.")
    with pytest.raises(UnsupportedError, match=r"^It holds nothing\.$"):
        read_cache(path)
    path.write_bytes(path.read_bytes().replace(b"nothing", b"Nothing"))
    with pytest.raises(CalibrationError, match="was edited or damaged"):
        read_cache(path)
    path.write_text("deepgap_unsupported: It holds nothing.\n", encoding="utf-8")
    with pytest.raises(CalibrationError, match="is truncated"):
        read_cache(path)


def test_caches_that_are_no_text_or_no_file_are_refused(tmp_path):
    path = tmp_path / "resnet18.cache"
    with pytest.raises(CalibrationError, match="does not exist"):
        read_cache(path)
    path.write_bytes(bytes(range(256)))
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_cache(path)


def test_a_cache_of_another_model_is_refused(tensors, tmp_path):
    model = small_graph("resnet18")
    path = tmp_path / "resnet18.cache"
    scales = dict.fromkeys(tensors, 0.1)
    check_cache(scales, model, path)
    with pytest.raises(CalibrationError, match="is cut short or of another model: it lacks the tensor relu_16"):
        check_cache({name: scale for name, scale in scales.items() if name != "relu_16"}, model, path)
    with pytest.raises(
        CalibrationError, match=r"is of another model: it has the tensor layer1\.0\.conv3, which is not this model's"
    ) as caught:
        check_cache({**scales, "layer1.0.conv3": 0.1}, model, path)
    assert str(path) in str(caught.value)
