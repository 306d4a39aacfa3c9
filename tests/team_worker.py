"""Trains as one worker of a team, for tests.

  python team_worker.py '{"addresses": ["127.0.0.1:2222"], "index": 0, ...}'

Without addresses it trains alone. The last line is what came of it, as JSON;
weights go to <out>.npz.
"""

import itertools
import json
import os
import pathlib
import signal
import sys
import time

import dafx  # noqa: F401  What makes ddsp importable, so before it.

RATE, HOP, N_SAMPLES = 16000, 512, 2048
DEFAULTS = {
  'addresses': [],
  'index': 0,
  'kind': 'plugins',
  'batch_size': 4,
  'n_steps': 6,
  'save_dir': '',
  'out': '',
  'seed': 0,
  'stop_at': None,  # step after which this one is sent SIGTERM
  'die_at': None,  # step at which it is killed
  'fail_at': None,  # window, of all so far, in which a fault is raised
  'validate': False,
  'average': None,  # momentum of that of the weights
  'loud': 1.0,  # of this worker's data
  'settings': '',
}


def recordings(seed, loud, deadly, once_deadly=False):
  """Noise, and the same softer and duller; in memory."""
  import numpy as np

  from dafx.training import data

  rng = np.random.default_rng(seed)
  found = []
  for i in range(6):
    dry = (0.1 * rng.standard_normal(2 * N_SAMPLES)).astype(np.float32)
    if deadly and i == 2:
      dry[::256] = 20.0
    if once_deadly and i == 2:
      dry[N_SAMPLES] = 20.0  # in one of the windows
    wet = (0.3 * dry).astype(np.float32)
    found.append((f'{i}', dry, wet, np.zeros(0), ''))
  provider = data.Recordings(found, (), RATE, N_SAMPLES)
  for _, dry, wet, *_ in found:  # which refuses levels that are beyond all use
    dry *= loud
    wet *= loud
  return provider


def make_model(kind):
  """Returns a model of the tests' own plugins, which are linear."""
  import ddsp
  import tensorflow as tf

  from dafx import effects, losses, neural
  from dafx.training import models
  from dafx.training.models import encoders

  class Normed(models.Encoder):
    """Batch normalisation, of a few bands."""

    hop_size = HOP

    def __init__(self):
      super().__init__(name='normed')
      self.normalisation = tf.keras.layers.BatchNormalization()

    def call(self, audio, training=None):
      frames = tf.signal.frame(audio, HOP, HOP, pad_end=True)
      power = tf.reduce_mean(
        tf.reshape(frames**2, [tf.shape(audio)[0], -1, 8, HOP // 8]), -1
      )
      return self.normalisation(power, training=training)

  loss = [losses.TimeDomainLoss('L2', weight=100.0)]
  isolation = 'process' if 'brittle' in kind else 'thread'
  host = effects.Host(warm_up=0, n_threads=1, isolation=isolation)
  options: dict = dict(host=host, sample_rate=RATE)
  if 'windows' in kind:
    dag: list = [(neural.Rnn(n_units=4, seed=0), ['audio'])]
    if kind == 'brittle windows':
      before = effects.LV2Plugin(
        'urn:dafx-test:brittle', trainable=[], name='before', **options
      )
      dag = [(before, ['audio']), (dag[0][0], ['before/signal'])]
    group = ddsp.processors.ProcessorGroup(dag=dag)
    return models.EffectModel(group, loss, RATE)
  # The gradient to the audio between the two is chosen by the whole batch.
  gain = effects.LV2Plugin('urn:dafx-test:gain', name='gain', **options)
  second = effects.LV2Plugin('urn:dafx-test:onepole', name='second', **options)
  if kind == 'brittle':
    second = effects.LV2Plugin(
      'urn:dafx-test:brittle', name='second', **options
    )
  elif kind == 'discrete':
    second = effects.DiscreteLV2Plugin(
      'urn:dafx-test:modal', {'mode': [0, 1, 2]}, name='second', **options
    )
  elif kind == 'proxy':
    network = neural.DilatedConv(2, 3, conditioning='film', n_knobs=1, seed=0)
    second = effects.ProxyLV2Plugin(second, network, name='second')
  if kind == 'chain':
    chain = effects.LV2Chain([gain, second], name='chain')
    dag = [(chain, ['audio', 'gain_controls', 'second_controls'])]
  else:
    dag = [
      (gain, ['audio', 'gain_controls']),
      (second, ['gain/signal', 'second_controls']),
    ]
  encoder = encoders.LogMelEncoder(RATE, HOP, 4, n_mels=8, fft_size=512)
  if kind == 'normed':
    encoder = Normed()
  group = ddsp.processors.ProcessorGroup(dag=dag)
  return models.ControlModel(encoder, group, loss, RATE)


def train(options, workers):
  """Trains; returns what came of it."""
  import gin
  import numpy as np
  import tensorflow as tf

  from dafx import core, lv2
  from dafx.training import channel, trainers
  from dafx.training.trainers import agreement

  if options['settings']:
    gin.parse_config(options['settings'])
  agreement.check_settings(workers)
  with workers.scope():
    model = make_model(options['kind'])
  shapes = set()
  call = model.call

  def noted(features, *args, **kwargs):
    if kwargs.get('training'):
      shapes.add(tuple(features['audio'].shape))
    return call(features, *args, **kwargs)

  stream, windows = model.stream, itertools.count(1)

  def count_window():
    if next(windows) == options['fail_at']:
      raise ArithmeticError('as the test asks for')
    return np.float32(0.0)

  def noted_window(state, features):
    shapes.add(tuple(features['audio'].shape))
    core.call_python(count_window, [], tf.float32, 'a fault', stateful=True)
    return stream(state, features)

  model.call, model.stream = noted, noted_window
  size = N_SAMPLES // 4 if 'windows' in options['kind'] else None
  trainer = trainers.Trainer(
    model,
    learning_rate=1e-2,
    tbptt_samples=size,
    average_momentum=options['average'],
    workers=workers,
  )
  take = trainer.train_step

  def train_step(*args):
    losses = take(*args)
    if trainer.step == options['stop_at']:
      signal.raise_signal(signal.SIGTERM)
    if trainer.step == options['die_at']:
      os.kill(os.getpid(), signal.SIGKILL)
    return losses

  trainer.train_step = train_step
  kind = options['kind']
  history, error = {}, ''
  try:
    history = trainers.train(
      recordings(
        0, options['loud'], kind == 'brittle', kind == 'brittle windows'
      ),
      recordings(1, 1.0, False) if options['validate'] else None,
      trainer,
      batch_size=options['batch_size'],
      num_steps=options['n_steps'],
      steps_per_save=2,
      steps_per_validation=3,
      seed=options['seed'],
      save_dir=options['save_dir'],
    )
  except KeyboardInterrupt:
    error = 'KeyboardInterrupt'
  except (ArithmeticError, lv2.CrashError, channel.WorkerError) as raised:
    if not workers.is_agreed:
      raise
    # gin adds a line of its own.
    error = f'{type(raised).__name__}: {raised}'.splitlines()[0]
  if options['out']:
    weights = [v.numpy() for v in model.trainable_variables]
    np.savez(options['out'], *weights)
  return {
    'error': error,
    'history': history,
    'step': trainer.step,
    'shapes': sorted(shapes),
    'counts': sorted([*k, n] for k, n in trainer.crashes.counts.items()),
    'ways': [
      [int(v) for v in node.input_choice.numpy()]
      + [float(node.input_factor.numpy())]
      for node in getattr(model, 'driven', {}).values()
      if getattr(node, 'input_choice', None) is not None
    ],
  }


def main():
  """Trains as the command line says."""
  options = {**DEFAULTS, **json.loads(sys.argv[1])}
  from dafx.commands import running

  running.prepare_tensorflow(0)
  from dafx import core
  from dafx.training import cluster
  from dafx.training.trainers import team

  if not options['addresses']:
    result = train(options, core.Workers())
    print(json.dumps({**result, 'replicas': 1}), flush=True)
    return
  found = cluster.Cluster(tuple(options['addresses']), options['index'])
  with team.Team(found, time_limit_s=60.0) as workers:
    replicas = workers.strategy.num_replicas_in_sync
    result = train(options, workers)
  print(json.dumps({**result, 'replicas': replicas}), flush=True)


if __name__ == '__main__':
  sys.path[0] = str(pathlib.Path(__file__).parents[1])
  start = time.monotonic()
  main()
