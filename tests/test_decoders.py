"Autoregressive decoders and text: masks, log-probabilities word by word, rows in chunks, corpora."
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mae_nb.autoregressive import MADE, PixelCNN
from mae_nb.context import seeded
from mae_nb.distributions import Autoregressive
from mae_nb.models import pixel_mae, text_mae
from mae_nb.text import Vocabulary, corpus, read_sentences, words_of
from mae_nb.training.how import _check_precision
from mae_nb.words import LSTMDecoder, SentenceReader, TransformerDecoder
from torch.testing import assert_close

NETS = [LSTMDecoder, TransformerDecoder]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5),
       st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=3), st.integers(0, 100))
def test_a_pixel_sees_its_stated_field(height, width, kernels, seed):
    with seeded(seed):
        net = PixelCNN((height, width), kernels=kernels, width=8)
        x, z = torch.rand(3, height, width, requires_grad=True), torch.randn(3, 2)
    numbers = net.numbers(x, z)
    assert all(place < (0, 0) for place in net.field)  # rows above, or to the left
    for i in range(height):
        for j in range(width):
            g, = torch.autograd.grad(numbers[:, i, j].sum(), x, retain_graph=True)
            seen = {(a - i, b - j) for a, b in g.abs().sum(0).nonzero().tolist()}
            field = {(a, b) for a, b in net.field if 0 <= i + a < height and 0 <= j + b < width}
            assert seen == field or len(kernels) > 1 and seen < set(net.field)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 40), st.integers(0, 100))
def test_made_sums_to_one_and_keeps_its_order(height, width, units, seed):
    with seeded(seed): net, z = MADE((height, width), width=units), torch.randn(1, 2)
    every = torch.cartesian_prod(*[torch.arange(2.)]*(height*width)).view(-1, height, width)
    assert_close(net(z).log_prob(every).logsumexp(0), torch.tensor(0.), atol=1e-5, rtol=0)
    jacobian = torch.autograd.functional.jacobian(lambda x: net.numbers(x, z)[0].flatten(),
                                                  torch.rand(1, height, width))[:, 0].flatten(1)
    assert (jacobian.triu() == 0).all()


@pytest.mark.parametrize("make", NETS)
def test_log_prob_is_the_sum_over_words(make):
    with seeded(0):
        net, z, x = make(11, 9, 3, 16), torch.randn(40, 3), torch.zeros(40, 9, dtype=torch.long)
    with seeded(1):
        for row in x:
            n = int(torch.randint(0, 9, ()))
            row[:n] = torch.randint(1, 11, (n,))
    with torch.no_grad():
        for row, code, found in zip(x, z, net(z).log_prob(x)):
            state, before, total = None, torch.zeros(1, 1, dtype=torch.long), 0.
            for place, word in enumerate(row[:-1].tolist()):
                hidden, state = net.hidden(net.see(before), code[None], state)
                total += net.say(hidden[0, 0]).log_softmax(-1)[word].item()
                if word == 0: break
                before = row[None, place:place + 1]
            assert found.item() == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("make", NETS)
def test_what_is_no_sentence_has_no_probability(make):
    with seeded(0): net = make(5, 4, 2, 8)
    x = torch.tensor([[2, 0, 3, 0], [2, 3, 4, 2], [2, 3, 4, 0], [0, 0, 0, 0]])
    assert (net(torch.zeros(4, 2)).log_prob(x) > -math.inf).tolist() == [False, False, True, True]
    assert net.support.check(torch.tensor([[5, 0, 0, 0], [-1, 0, 0, 0]])).tolist() == [False, False]


@pytest.mark.parametrize("make", NETS)
def test_words_are_dropped_in_training_only(make):
    with seeded(0):
        net, x, z = make(50, 9, 2, 16, drop=.5), torch.randint(1, 50, (20, 9)), torch.randn(20, 2)
    x[:, -1] = 0
    net.eval()
    same = net(z).log_prob(x)
    assert_close(same, net(z).log_prob(x))
    net.train()
    assert not torch.equal(net(z).log_prob(x), same)
    assert net.eval().say.weight.requires_grad and torch.isfinite(net.train()(z).log_prob(x)).all()


def test_rows_in_chunks_are_rows():
    with seeded(0):
        net, z, x = MADE((2, 2)), torch.randn(70, 2), (torch.rand(70, 2, 2) < .5).float()
    whole = net(z).log_prob(x)
    with torch.no_grad(): assert_close(Autoregressive(net, z, rows=16).log_prob(x), whole)
    assert net(z).log_prob(x[:0].expand(0, 2, 2)[:, None].expand(0, 70, 2, 2)).shape == (0, 70)
    assert net(z[:0]).sample().shape == (0, 2, 2)
    assert net(z).sample((3, 2)).shape == (3, 2, 70, 2, 2)


MODELS = [partial(pixel_mae, (4, 4)), partial(pixel_mae, (4, 4), kernels=None),
          partial(text_mae, 9, 6, width=16), partial(text_mae, 9, 6, net="transformer")]


@pytest.mark.parametrize("make", MODELS)
def test_double_precision(make):
    mae = make(target=.5)
    x = mae.double().sample(6, seed=0)
    terms = mae(x)
    assert all(t.dtype == torch.float64 and t.isfinite() for t in terms)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", MODELS)
def test_half_the_bits_are_for_products_of_matrices(make, seed):
    with seeded(seed): mae = make(target=.5).eval()
    _check_precision(mae, "bfloat16")
    with seeded(seed), torch.no_grad():
        z = mae.prior.sample((200,))
        x = mae.decoder(z).sample()
        exact = mae.decoder(z).log_prob(x)
        with torch.autocast("cpu", torch.bfloat16): noisy = mae.decoder(z).log_prob(x)
    assert noisy.dtype == torch.float32 and 0 < (noisy - exact).abs().max() < .1


@pytest.mark.parametrize("make", NETS)
def test_every_word_can_be_drawn_in_half_the_bits(make):
    "Two thousand words, equally likely: a running sum of half the bits would skip most of them."
    net, z = make(2000, 2, 2, 8), torch.zeros(40_000, 2)
    for p in net.say.parameters(): torch.nn.init.zeros_(p)
    with seeded(0), torch.autocast("cpu", torch.bfloat16): x = net(z).sample()
    assert len(x[:, 0].unique()) == 2000


SENTENCES = st.lists(st.sampled_from("one two three four don't x_y 12".split()), min_size=1,
                     max_size=8).map(" ".join)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), SENTENCES), min_size=1, max_size=60),
       st.integers(0, 5))
def test_parts_share_no_source_and_no_sentence(found, seed):
    try: text = corpus(found, shortest=2, longest=6, seen=1, shares=(.2, .2), seed=seed)
    except ValueError as e:
        assert "leave none for the part" in str(e)
        return
    parts = text[:3]
    sources = [set(part.source) for part in parts]
    assert sum(map(len, sources)) == len(set.union(*sources))
    kept = [sentence for part in parts for sentence in text.vocabulary.decode(part.x)
            if "<unk>" not in sentence]
    assert len(kept) == len(set(kept))
    assert all(2 <= len(words_of(sentence)) <= 6 for sentence in kept)
    support = LSTMDecoder(len(text.vocabulary), 7).support
    assert all((part.x[:, -1] == 0).all() and support.check(part.x).all() for part in parts)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from("to be or not a-b it's 42".split()), max_size=6),
                max_size=10))
def test_words_come_back(sentences):
    vocabulary = Vocabulary("to be or not a-b it's 42".split())
    lines = [" ".join(words) for words in sentences]
    assert vocabulary.decode(vocabulary.encode(lines, 7)) == lines


def test_files_of_any_kind(tmp_path):
    path = tmp_path/"text.txt"
    path.write_text("\n \n", "utf-8")
    with pytest.raises(ValueError, match="in which nothing stands"): read_sentences(path)
    path.write_bytes("one line\r\n\r\nand a naïve other".encode())
    assert read_sentences(path, block=2) == [("lines 1 to 2", "one line"),
                                             ("lines 3 to 4", "and a naïve other")]


@pytest.mark.parametrize("seed", range(3))
def test_a_sentence_gives_the_same_numbers_beside_a_longer_one(seed):
    torch.manual_seed(seed)
    read, x = SentenceReader(9, 16), torch.tensor([[3, 4, 0, 0, 0, 0], [5, 2, 7, 8, 6, 0]])
    assert_close(read(x)[:1], read(x[:1]))
    # another order is another sentence
    turned = read(x[:, [1, 0, 2, 3, 4, 5]])
    assert not torch.allclose(turned, read(x), atol=1e-3)
    # its two words, and the end
    states, _ = read.lstm(read.see(torch.tensor([[3, 4, 0]])))
    assert_close(read(x)[0], states[0].max(0).values)


@pytest.mark.parametrize("make", MODELS)
def test_encoder_and_infomax_net_share_their_first_layers(make):
    mae = make(target=.5)
    assert mae.encoder[0] is mae.infomax[0]
    assert len({id(p) for p in mae.parameters()}) == len([*mae.parameters()])
