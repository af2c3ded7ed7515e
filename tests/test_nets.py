"""Networks against explicit formulas, over leading axes, and their errors."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from ppmodels.nets import MLP, BatchNorm, ConvDecoder, ConvEncoder, ResidualMLP, dense, head

pytestmark = pytest.mark.usefixtures("double")

NETS = {
    "mlp": lambda **options: MLP(12, (7, 5), **options),
    "identity": lambda **options: MLP(12, (), **options),
    "residual": lambda **options: ResidualMLP(12, 6, 3, **options),
    "encoder": lambda **options: ConvEncoder((3, 4), (2, 3), **options),
    "decoder": lambda **options: ConvDecoder(12, (2, 7, 8), (4, 3), **options),
}


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_any_leading_shape(make, batch_norm):
    net = make(batch_norm=batch_norm)
    h = torch.randn(4, 5, 12)
    net(h)  # in training, so that running statistics are not the initial ones
    net.eval()
    out = net(h)
    assert out.shape == (4, 5, net.out_features)
    assert net.in_features == 12
    one_by_one = torch.stack([torch.stack([net(v) for v in row]) for row in h])
    torch.testing.assert_close(out, one_by_one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_every_parameter_gets_a_gradient(make):
    net = make(batch_norm=True)
    net(torch.randn(9, 12, requires_grad=True)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_without_dropout_eval_is_train_and_copies_are_equal(make):
    net, h = make(), torch.randn(3, 12)
    train = net(h)
    assert torch.equal(train, net.eval()(h))
    assert torch.equal(train, copy.deepcopy(net)(h))
    other = make()
    other.load_state_dict(net.state_dict())
    assert torch.equal(train, other(h))


def test_mlp_is_the_formula():
    net, h = MLP(4, (3, 2)), torch.randn(6, 4)
    first, second = net[0], net[2]
    expected = torch.tanh(torch.tanh(h @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    torch.testing.assert_close(net(h), expected, rtol=0, atol=1e-14)


def test_weights_are_glorot_uniform():
    layer = dense(300, 200)
    limit = math.sqrt(6 / 500)
    assert layer.weight.abs().max() <= limit
    assert not layer.bias.any()
    # a uniform's variance is limit^2 / 3, the standard error of its estimate sqrt((1/5 - 1/9) / n) * limit^2
    error = math.sqrt((1 / 5 - 1 / 9) / layer.weight.numel()) * limit**2
    assert abs(float(layer.weight.detach().square().mean()) - limit**2 / 3) <= 4 * error  # false alarm 6e-5


def test_residual_blocks_are_the_formula():
    net, h = ResidualMLP(4, 3, 1), torch.randn(6, 4)
    _, first, _, second = net.blocks[0]
    inside = torch.tanh(torch.tanh(net.input(h)) @ first.weight.T + first.bias)
    expected = torch.tanh(net.input(h) + inside @ second.weight.T + second.bias)
    torch.testing.assert_close(net(h), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("blocks", [2, 56])
def test_depth_neither_swells_nor_starves(blocks):
    net, h = ResidualMLP(50, 50, blocks, nn.ReLU), torch.randn(200, 50, requires_grad=True)
    out = net.input(h)
    start = out.detach().std()
    for block in net.blocks:
        out = out + block(out)
    assert 0.5 < float(out.detach().std() / start) < 3.0
    (gradient,) = torch.autograd.grad(out.sum(), h)
    assert 0.1 < float(gradient.norm(dim=-1).mean()) / math.sqrt(50) < 10.0


def test_batch_norm_pools_every_leading_axis():
    ours, theirs, h = BatchNorm(5), nn.BatchNorm1d(5), torch.randn(3, 4, 5) * 2 + 1
    torch.testing.assert_close(ours(h).reshape(12, 5), theirs(h.reshape(12, 5)))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_batch_norm_stands_before_the_nonlinearity_and_dropout_after():
    net = MLP(4, (3,), nn.ReLU, dropout=0.5, batch_norm=True)
    assert [type(layer) for layer in net] == [nn.Linear, BatchNorm, nn.ReLU, nn.Dropout]


def test_dropout_drops_its_share_and_only_in_training():
    net, h = MLP(4, (1000,), dropout=0.25), torch.ones(20, 4)
    share = float((net(h) == 0).double().mean())
    assert abs(share - 0.25) <= 4 * math.sqrt(0.25 * 0.75 / 20_000)  # false alarm 6e-5
    net.eval()
    assert torch.equal(net(h), net(h))
    assert (net(h) != 0).all()


def test_convolutions_are_torchs():
    net, images = ConvEncoder((2, 6, 5), (3,)), torch.randn(4, 2, 6, 5)
    expected = F.relu(F.conv2d(images, net.layers[0].weight, net.layers[0].bias, stride=2, padding=1))
    torch.testing.assert_close(net(images.flatten(1)), expected.flatten(1))


@pytest.mark.parametrize(
    "net", [lambda: ConvEncoder((28, 28), (16,) * 4), lambda: ConvDecoder(784, (16, 28, 28), (16,) * 4)]
)
def test_signals_keep_their_size_through_convolutions(net):
    with torch.no_grad():
        size = net()(torch.randn(50, 784)).square().mean().sqrt()
    assert 0.4 < float(size) < 2.5


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (3, 7, 9), (1, 1, 1), (2, 1, 6)])
def test_decoder_mirrors_encoder(shape):
    encoder = ConvEncoder(shape, (3, 5))
    decoder = ConvDecoder(4, shape, (5, 3))
    assert encoder.in_features == decoder.out_features == math.prod(shape)
    assert decoder.input.out_features == encoder.out_features
    assert decoder(torch.zeros(2, 3, 4)).shape == (2, 3, math.prod(shape))


def test_head_of_a_decoder_is_a_pointwise_convolution():
    trunk = ConvDecoder(3, (4, 5, 6))
    layer = head(trunk, 2 * 30)
    nn.init.normal_(layer.bias)
    features = torch.randn(7, trunk.out_features)
    maps = F.conv2d(features.relu().reshape(7, 4, 5, 6), layer.weight[..., None, None])
    torch.testing.assert_close(layer(features), maps.flatten(1) + layer.bias)
    assert isinstance(head(MLP(3), 5), nn.Linear)
    assert torch.equal(head(ConvDecoder(3, (4, 5, 6)), 120)(features), features)  # the image itself


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: MLP(0), ValueError, "`in_features` must be an integer, at least 1, got 0"),
        (lambda: MLP(4, (3, -1)), ValueError, "`hidden` must be an integer, at least 1, got -1"),
        (lambda: MLP(4, (3, 2.5)), ValueError, r"`hidden` must be an integer, at least 1, got 2\.5"),
        (lambda: MLP(4, 200), TypeError, r"`hidden` must be a sequence of integers, such as \(200,\), got 200"),
        (lambda: MLP(4, dropout=1.0), ValueError, r"`dropout` must be a probability in \[0, 1\), got 1\.0"),
        (lambda: MLP(4, activation=nn.Tanh()), TypeError, r"`activation` must make a module.*leave out `\(\)`"),
        (lambda: ResidualMLP(4, blocks=0), ValueError, "`blocks` must be an integer, at least 1, got 0"),
        (lambda: ConvEncoder((784,)), ValueError, r"`shape` must be \(height, width\) or .*got \(784,\)"),
        (lambda: ConvEncoder((8, 8), 16), TypeError, r"`channels` must be a sequence of integers, such as \(16,\)"),
        (lambda: head(ConvDecoder(4, (8, 8)), 63), ValueError, "`out_features` must be a multiple of the 64 pixels"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()
