"""Clustering: centroids against scikit-learn, their training against the gradients' mean."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfq.errors import UsageError
from tfq.keras.clustering import INITIALIZATIONS, cluster, keep_clusters, kmeans, nearest

pytestmark = pytest.mark.slow

L = keras.layers


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


def net() -> keras.Model:
    i = keras.Input((6, 6, 3))
    x = L.Conv2D(8, 3, name="conv")(i)
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    return keras.Model(i, L.Dense(5, name="dense")(L.Flatten()(x)))


def data(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 6, 6, 3)).astype(np.float32), rng.integers(0, 5, count)


def fit(model: keras.Model, *callbacks, optimizer="adam", **options) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **options)
    model.fit(*data(), batch_size=16, epochs=2, verbose=0, callbacks=list(callbacks))


@pytest.mark.parametrize("initialization", ["linear", "density"])
def test_kmeans_is_that_of_scikit_learn(initialization: str) -> None:
    peer = pytest.importorskip("sklearn.cluster", reason="pip install scikit-learn")
    w = np.random.default_rng(3).normal(size=500)
    if initialization == "linear":
        start = np.linspace(w.min(), w.max(), 8)
    else:
        start = np.quantile(w, (np.arange(8) + 0.5) / 8)
    theirs = peer.KMeans(8, init=start[:, None], n_init=1, max_iter=100, tol=0).fit(w[:, None])
    ours = kmeans(w, 8, initialization, np.random.default_rng(0))
    np.testing.assert_allclose(ours, np.sort(theirs.cluster_centers_[:, 0]), atol=1e-9)


@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_centroids_are_the_means_of_what_is_nearest(initialization: str) -> None:
    w = np.random.default_rng(3).normal(size=(20, 30)).astype(np.float32)
    centers = kmeans(w, 6, initialization, np.random.default_rng(0))
    index = nearest(w, centers)
    brute = np.abs(w[..., None] - centers).argmin(-1)
    np.testing.assert_array_equal(index, brute)
    for i, c in enumerate(centers):
        assert w[index == i].astype(np.float64).mean() == pytest.approx(c)


def test_few_values_are_their_own_centroids() -> None:
    w = np.array([3.0, 1.0, 3.0, -2.0])
    centers = kmeans(w, 8, "linear", np.random.default_rng(0))
    assert centers.tolist() == [-2.0, 1.0, 3.0]


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}])
@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_training_leaves_so_many_values(initialization: str, options) -> None:
    model = net()
    callback = cluster(model, 8, initialization)
    fit(model, callback, **options)
    for name in ("conv", "dense"):
        assert len(np.unique(model.get_layer(name).kernel.numpy())) == 8
    assert callback.distinct() == {"conv": 8, "dense": 8}
    depthwise = model.get_layer("depthwise").kernel.numpy()
    assert len(np.unique(depthwise)) == depthwise.size


def test_a_centroid_follows_the_mean_gradient_of_its_members() -> None:
    model = net()
    callback = cluster(model, 4)
    callback.begin()
    kernel = model.get_layer("dense").kernel
    before = kernel.numpy()
    x, y = data()
    with tf.GradientTape() as tape:
        logits = model(x)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
    gradient = tf.convert_to_tensor(tape.gradient(loss, kernel.value)).numpy()
    keras.optimizers.SGD(0.1).apply([gradient], [kernel])
    callback.step()
    for value in np.unique(before):
        members = before == value
        expected = value - 0.1 * gradient[members].mean()
        np.testing.assert_allclose(kernel.numpy()[members], expected, rtol=1e-4, atol=1e-6)


def test_nothing_drifts_where_nothing_is_trained() -> None:
    model = keras.Sequential([keras.Input((300,)), L.Dense(300)])
    callback = cluster(model, 3)
    callback.begin()
    before = model.layers[0].kernel.numpy()
    for _ in range(50):
        callback.step()
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), before)


def test_zeros_are_a_cluster_of_their_own() -> None:
    model = net()
    kernel = model.get_layer("conv").kernel
    zero = np.random.default_rng(0).random(kernel.shape) < 0.6
    kernel.assign(np.where(zero, 0, kernel.numpy()))
    fit(model, cluster(model, 5, preserve_sparsity=True))
    np.testing.assert_array_equal(kernel.numpy() == 0, zero)
    assert len(np.unique(kernel.numpy())) == 5


def test_clusters_per_channel_and_rules() -> None:
    model = net()
    rules = [{"regex": "dense", "clusters": 0}]
    fit(model, cluster(model, 3, per_channel=True, rules=rules))
    columns = model.get_layer("conv").kernel.numpy().reshape(-1, 8).T
    assert [len(np.unique(c)) for c in columns] == [3] * 8
    assert len(np.unique(model.get_layer("conv").kernel.numpy())) == 24
    dense = model.get_layer("dense").kernel.numpy()
    assert len(np.unique(dense)) == dense.size


def test_clusters_that_are_there_are_kept() -> None:
    model = net()
    cluster(model, 6).begin()
    before = model.get_layer("conv").kernel.numpy()
    fit(model, keep_clusters(model, clusters=6))
    after = model.get_layer("conv").kernel.numpy()
    assert (after != before).all()
    for value in np.unique(before):
        assert len(np.unique(after[before == value])) == 1
    with pytest.raises(UsageError, match="no clusters to keep"):
        keep_clusters(net(), clusters=16)


def test_equal_seeds_give_equal_values() -> None:
    model = net()
    start = model.get_weights()
    found = []
    for _ in range(2):
        model.set_weights(start)
        cluster(model, 8, "kmeans++", seed=7).begin()
        found.append(model.get_layer("conv").kernel.numpy())
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: cluster(m, 1), "Received: 1"),
        (lambda m: cluster(m, 4, "random"), "initialization 'random'"),
        (lambda m: cluster(m, rules=[{"regex": "conv", "sparsity": 1}]), "'sparsity'"),
        (lambda m: cluster(m, rules=[{"regex": "nowhere", "clusters": 4}]), "'nowhere' matches"),
        (lambda m: cluster(m, rules=[{"regex": "conv", "clusters": 1}]), "Received: 1"),
        (lambda m: cluster(L.Dense(3)), "Received: Dense"),
    ],
)
def test_what_cannot_be_done_is_said(call, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call(net())


def test_training_another_model_is_an_error() -> None:
    with pytest.raises(UsageError, match="none of whose weights"):
        fit(net(), cluster(net(), 4))
