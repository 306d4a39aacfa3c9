"""Numbers of a training that none of their kind can be.

Kind: a wrong number is refused by name before the first step; it neither fails
in the middle of the work nor trains something else in silence.
"""

import math

import gin
import numpy as np
import pytest
from runs_test import make_model, sines

from dafx import _arguments, lv2
from dafx.commands import phrases
from dafx.training import gin_files, gin_text, trainers


@pytest.mark.parametrize(
  'name, value',
  [
    *[('num_steps', value) for value in (math.nan, -1, None, '6', 6.5, True)],
    *[('batch_size', value) for value in (0, -1, 1.5, math.inf)],
    *[('steps_per_save', value) for value in (0, -1, 1.5)],
    ('steps_per_validation', 0),
    ('steps_per_summary', 0),
    ('seed', -1),
  ],
)
def test_numbers_of_a_training_are_checked_first(tmp_path, name, value):
  with pytest.raises(ValueError, match=f'{name}=.* must be a whole number'):
    trainers.train(
      sines(),
      None,
      trainers.Trainer(make_model()),
      save_dir=str(tmp_path / 'run'),
      **{'batch_size': 2, 'num_steps': 2, name: value},
    )
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'name, value',
  [
    *[('learning_rate', v) for v in (math.nan, math.inf, -1.0, 'x', None)],
    *[('grad_clip_norm', value) for value in (0.0, -1.0, math.nan)],
    ('weight_decay', -0.1),
    ('plateau_factor', math.nan),
    ('min_learning_rate', -1.0),
    ('checkpoints_to_keep', 0),
  ],
)
def test_numbers_of_a_trainer_are_checked_first(name, value):
  with pytest.raises(ValueError, match=f'{name}=.* must be a '):
    trainers.Trainer(make_model(), **{name: value})


def test_numbers_that_mean_the_same_are_taken():
  assert _arguments.whole(0, a=1e3, b=np.int64(4), c=np.float32(2)) == [
    1000,
    4,
    2,
  ]
  _arguments.finite(a=0, b=np.float32(0.5))


@pytest.mark.parametrize('content', [b'', b'\x82\xff', None])
def test_a_damaged_configuration_does_not_keep_a_run_from_going_on(
  tmp_path, content, caplog
):
  path = tmp_path / 'operative_config-0.gin'
  if content is None:
    path.mkdir()
  else:
    path.write_bytes(content)
  gin_files.warn_of_old_run(tmp_path)
  assert not caplog.text
  (tmp_path / 'operative_config-9.gin').write_text('import dafx.effects\n')
  gin_files.warn_of_old_run(tmp_path)
  assert 'was trained by dafx 0.1.0' in caplog.text


@pytest.mark.parametrize(
  'text', ['loss = esr', 'is_on = true', 'x = nan', "x = 'a", 'x =', 'x = [a]']
)
def test_a_text_without_quotes_is_told_of(text):
  with pytest.raises(ValueError, match="^--gin_param, line 1: What .* 'esr'"):
    gin_text.statements(text, '--gin_param')


def test_a_byte_order_mark_is_told_of():
  text = '\ufeffnum_steps = 3\n'.encode()
  with pytest.raises(ValueError, match='save it as UTF-8 without one'):
    gin_text.statements(text, 'a.gin')


def test_an_argument_that_nothing_gives_is_told_of_with_the_remedy():
  @gin.configurable
  def stand_in(graph=gin.REQUIRED, level=gin.REQUIRED):
    return graph, level

  with pytest.raises(RuntimeError) as caught:
    stand_in()
  told = phrases.plain(str(caught.value))
  assert 'what graph, level of stand_in is' in told
  assert '--gin_param="stand_in.graph = ..."' in told


@pytest.mark.parametrize(
  'name, value',
  [
    *[('n_threads', value) for value in (0, 1.5, 10**6, 'x', math.nan)],
    *[('block_size', value) for value in (0, 1.5, 2**31, None)],
    *[('warm_up', value) for value in (-1, 10**12, math.inf)],
    *[('sample_rate', v) for v in (0, -1, 2**31 - 1, math.nan, '44100')],
  ],
)
@pytest.mark.parametrize('isolation', ['thread', 'process'])
def test_options_of_a_renderer_are_checked_first(name, value, isolation):
  options = {'sample_rate': 44100, 'isolation': isolation, name: value}
  with pytest.raises(ValueError, match=f'{name}=.* must be a .* at least'):
    lv2.Renderer('urn:dafx-test:gain', **options)


@pytest.mark.parametrize('value', [None, '4', [1.0], {}])
def test_fixed_values_that_are_no_numbers_are_refused(value):
  with pytest.raises(ValueError, match='amount=.* must be a number'):
    lv2.Renderer('urn:dafx-test:onepole', 44100, fixed={'amount': value})
