r"""dafx_run: trains networks that set plugins or are effects, and uses them.

It also sets plugins for one recording, without training (match).

    dafx_run --mode=MODE --save_dir=FOLDER [--gin_file=FILE ...]

Modes
  train    Train a model, or continue the training that is in --save_dir.
      dafx_run --gin_file=mastering_demo.gin --save_dir=~/dafx/mastering
      With --workers or --local_workers several processes train one model.
  eval     Compare a trained model with the targets of the test split.
      dafx_run --mode=eval --gin_file=mastering_demo.gin \
        --save_dir=~/dafx/mastering
  sample   Process some files of the test split, to listen to.
      dafx_run --mode=sample --gin_file=mastering_demo.gin \
        --save_dir=~/dafx/mastering
  process  Process audio files, and write the controls that the model sets.
      dafx_run --mode=process --save_dir=~/dafx/mastering --input=mix.wav \
        --output=master.wav --amount=0.5
  match    Set plugins so that a file comes near to a target, without training:
           the same music after other effects (--target), or to the character
           of other music (--reference). The settings that it writes do for
           other files too.
      dafx_run --mode=match --gin_file=match_master.gin --input=mix.wav \
        --target=master.wav --output=out.wav
      dafx_run --mode=process --settings=out.settings.json --input=other.wav \
        --output=other_out.wav
  export   Write a model of an effect as a .nam file or a SavedModel, one of an
           instrument as a SavedModel.
      dafx_run --mode=export --save_dir=~/dafx/amp --output=amp.nam
           With --gin_file before training: say whether it can be.
  profile  Measure size and speed of a model of an effect, trained or not.
      dafx_run --mode=profile --gin_file=blackbox.gin --save_dir=/tmp/profile

Where settings contradict, the later file of --gin_file wins, and --gin_param
wins over all files. gin/README.md lists the files.
"""

import importlib
import sys

from absl import app, flags

from dafx import _environment, _folders
from dafx.audio import files as audio_files
from dafx.commands import (
  effect_modes,
  instrument_flags,
  match_mode,
  render_flags,
  running,
  train_mode,
)
from dafx.training import (
  data_places,
  gin_files,
  needed_plugins,
  trained_models,
)

FLAGS = flags.FLAGS

# Modes that take all they need from a saved run, and the flags they need.
_SAVED_MODES = {'process': ('input', 'output'), 'export': ('output',)}
# Flags that other modes would pass over.
_MODES_OF_FLAGS = {
  'input': ('process', 'match'),
  'output': ('process', 'match', 'export'),
  'settings': ('process',),
  'session': ('process', 'match'),
  'knobs': ('process', 'export'),
  'size': ('process',),
  'model': ('eval', 'sample', 'process'),
  'amount': ('process', 'match'),
  'n_plugins': ('eval', 'sample', 'process'),
  'single_dir': ('eval',),
  'trust': ('process', 'export', 'eval'),
  **dict.fromkeys(match_mode.NAMES, ('match',)),
  **dict.fromkeys(instrument_flags.NAMES, instrument_flags.MODES),
  **dict.fromkeys(effect_modes.NAMES, effect_modes.MODES),
  **dict.fromkeys(train_mode.NAMES, ('train',)),
}

flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'eval', 'sample', 'process', 'match', 'export', 'profile'],
  'What to do; see above.',
)
flags.DEFINE_string(
  'save_dir',
  '~/dafx/run',
  'Folder of the run: checkpoints, settings, figures for TensorBoard; '
  'such as --save_dir=~/dafx/mastering.',
)
flags.DEFINE_string(
  'restore_dir',
  '',
  'Folder of a run to take trained weights from, such as '
  '--restore_dir=~/dafx/mastering: train begins a new run with those that fit; '
  'other modes use that run in place of save_dir.',
)
flags.DEFINE_multi_string(
  'gin_search_path',
  [],
  'Further folder in which to look for .gin files, such as '
  '--gin_search_path=my_gin.',
)
flags.DEFINE_multi_string(
  'gin_file',
  [],
  'A .gin file, such as --gin_file=mastering.gin.',
)
flags.DEFINE_multi_string(
  'gin_param',
  [],
  'A gin binding, such as --gin_param="batch_size = 4".',
)
flags.DEFINE_multi_string(
  'gin_module', [], 'Your own module that a run imports; --gin_module=my_fx.'
)
flags.DEFINE_bool(
  'trust', False, 'process, export, eval: let a run import and call anything.'
)
flags.DEFINE_string(
  'input', None, 'process, match: an audio file, or a folder; --input=mix.wav.'
)
flags.DEFINE_string(
  'output',
  None,
  'process, match, export: the file or folder to write; --output=master.wav.',
)
flags.DEFINE_string(
  'target',
  None,
  'match: the same music after other effects, or a folder of files of the '
  "inputs' names; --target=master.wav.",
)
flags.DEFINE_multi_string(
  'reference',
  [],
  'match: in place of --target, other music whose character is wanted; give it '
  'once for each file; --reference=other.wav.',
)
flags.DEFINE_float(
  'time_limit',
  None,
  'match: seconds after which the search for a file ends with the best so far, '
  '60 if neither this nor --max_renders is given; --time_limit=20.',
  lower_bound=0.0,
)
flags.DEFINE_integer(
  'max_renders',
  None,
  'match: renders of one plugin after which it ends; then the result does not '
  'depend on how fast the machine is; --max_renders=3000.',
  lower_bound=1,
)
flags.DEFINE_string(
  'settings',
  None,
  'process: what --mode=match found, in place of a trained model; '
  '--settings=out.settings.json.',
)
flags.DEFINE_bool(
  'session',
  None,
  'process, match: write a session for Ardour (and Reaper, untested) beside '
  'the output; match does so unless --nosession.',
)
flags.DEFINE_bool(
  'page',
  None,
  'match: write a page to listen to beside the output, or --nopage.',
)
flags.DEFINE_string(
  'model',
  None,
  'process, eval, sample: a model that comes trained with dafx, in place of a '
  'run of your own; none does yet.',
)
flags.DEFINE_float(
  'amount',
  None,
  'process: how much of what the model sets is done, from 0 (the input as it '
  'is) to 1. match: how much of what is found, from 0 (loudness alone) to 1; '
  'by default 1 with --target, 0.5 with --reference; --amount=0.5.',
  lower_bound=0.0,
  upper_bound=1.0,
)
flags.DEFINE_integer(
  'n_plugins',
  None,
  'eval, sample, process: use only so many plugins of the chain, from the '
  'first on; --n_plugins=1.',
  lower_bound=1,
)
flags.DEFINE_string(
  'single_dir',
  '',
  'eval: a run with single_setting.gin, to compare with the best single '
  'setting; --single_dir=~/dafx/single.',
)
flags.DEFINE_integer(
  'seed', 0, 'Seed of what is random in training; --seed=1.', lower_bound=0
)
flags.DEFINE_bool(
  'allow_memory_growth', False, 'Take GPU memory as it is needed, not at once.'
)


def _run_folder() -> str:
  """Returns the folder of the run that is used."""
  if FLAGS.model is not None:
    return str(trained_models.folder(FLAGS.model))
  return FLAGS.restore_dir or FLAGS.save_dir


def _check_flags():
  """Raises UsageError for flags that do not fit together."""
  mode = FLAGS.mode
  for flag, modes in _MODES_OF_FLAGS.items():
    value = FLAGS[flag].value
    is_given = value not in (None, '', []) and value is not False
    if is_given and mode not in modes:
      raise app.UsageError(
        f'--{flag} is for --mode={" and ".join(modes)}; --mode={mode} does not '
        'take it.'
      )
  # In other modes results are written to --save_dir.
  own = FLAGS.restore_dir or (mode == 'process' and FLAGS['save_dir'].present)
  if FLAGS.model is not None and own:
    flag = 'restore_dir' if FLAGS.restore_dir else 'save_dir'
    raise app.UsageError(
      f'--model={FLAGS.model} and --{flag} both name a model: give one of them.'
    )
  if FLAGS.settings is not None:
    match_mode.check_settings_flags(FLAGS)
  if mode == 'process' and FLAGS.session and FLAGS.amount == 0.0:
    raise app.UsageError('At --amount=0 nothing is set: leave out --session.')
  if mode == 'match':
    match_mode.check_flags(FLAGS)
  train_mode.check_flags(FLAGS)
  for flag in _SAVED_MODES.get(mode, ()):
    if not FLAGS[flag].value:
      raise app.UsageError(f'--mode={mode} needs --{flag}.')
  if mode not in _SAVED_MODES and not FLAGS.gin_file:
    raise app.UsageError(
      f'--mode={mode} needs --gin_file, such as --gin_file=mastering.gin.'
    )


def _check_files():
  """Raises for files and folders that are missing; TensorFlow loads later."""
  gin_files.add_gin_search_paths(FLAGS.gin_search_path)
  bound = gin_files.check_gin(FLAGS.gin_file, FLAGS.gin_param)
  mode, folder = FLAGS.mode, _run_folder()
  if mode == 'match':
    needed_plugins.check_installed(bound, ' and '.join(FLAGS.gin_file))
    match_mode.plan_of(FLAGS)
    return
  if FLAGS.settings is not None:
    if not _folders.expand_user(FLAGS.settings).is_file():
      raise FileNotFoundError(f'{FLAGS.settings}: there is no such file.')
    audio_files.plan_outputs(FLAGS.input, FLAGS.output)
    return
  uses_saved = _uses_saved()
  if uses_saved or FLAGS.model is not None:
    _check_plugins(folder)
  if not uses_saved:
    _folders.check_output_folder(FLAGS.save_dir, '--save_dir')
    _folders.check_is_text(FLAGS.save_dir, '--save_dir')
  if uses_saved or mode in ('eval', 'sample'):
    gin_files.check_checkpoints(folder)
  elif FLAGS.restore_dir and not gin_files.has_checkpoint(FLAGS.save_dir):
    gin_files.check_checkpoints(FLAGS.restore_dir)
  if FLAGS.single_dir:
    gin_files.check_operative_config(FLAGS.single_dir, *_allowed())
    gin_files.check_checkpoints(FLAGS.single_dir)
  if mode in ('train', 'eval', 'sample'):
    data_places.check_data(bound, is_training=mode == 'train')
  if mode == 'process':
    audio_files.plan_outputs(FLAGS.input, FLAGS.output)


def _uses_saved() -> bool:
  """Whether a saved run is all; an export of what is untrained is a check."""
  is_check = FLAGS.mode == 'export' and FLAGS.gin_file
  if is_check and not gin_files.has_checkpoint(_run_folder()):
    return False
  return FLAGS.mode in _SAVED_MODES


def _allowed() -> tuple[list[str], bool]:
  """Returns what the configuration of a run may import and call."""
  return FLAGS.gin_module, FLAGS.trust


def _check_plugins(folder):
  """Raises for a saved model whose plugins are not installed."""
  bound = gin_files.check_operative_config(folder, *_allowed())
  bound |= gin_files.check_gin((), FLAGS.gin_param)
  needed_plugins.check_installed(bound, _describe_model())


def _describe_model() -> str:
  if FLAGS.model is not None:
    return f'the {FLAGS.model} model that comes with dafx'
  return f'the model of {_run_folder()}'


def _describe_task() -> str:
  """Says what the flags ask for."""
  files = ' and '.join(FLAGS.gin_file)
  model = _describe_model()
  return {
    'train': f'training {files} in {FLAGS.save_dir}',
    'eval': f'comparing {model} with the targets of the test split',
    'sample': f'writing samples of {model}',
    'process': f'processing {FLAGS.input} by {FLAGS.settings or model}',
    'match': f'matching {FLAGS.input} to {match_mode.aim(FLAGS)}',
    'export': f'exporting {model} to {FLAGS.output}',
    'profile': f'measuring what {files} costs',
  }[FLAGS.mode]


def _use_saved(folder):
  """Processes files by a trained model, or exports it."""
  from dafx.training import inference

  model = inference.load_model(folder, FLAGS.gin_param, *_allowed())
  model.check_mode(FLAGS.mode)
  if FLAGS.mode == 'export':
    effect_modes.export(model, folder, FLAGS)
    print(FLAGS.output)
    return
  options = render_flags.options_of(FLAGS, model)
  told: list[str] = []
  options['tell_session'] = told.append if FLAGS.session else None
  paths = inference.process(model, FLAGS.input, FLAGS.output, **options)
  for path in paths:
    print(path, flush=True)
  # At an amount of 0 nothing is set.
  if FLAGS.amount != 0.0 and (advice := model.describe_outputs(paths)):
    running.announce(advice)
  running.announce_all(told)


def _use(save_dir, single):
  from dafx.training import checkpoints, descriptions, models
  from dafx.training.evaluation import evaluate

  folder = _folders.expand_user(_run_folder())
  if FLAGS.mode in _SAVED_MODES:
    _use_saved(folder)
    return
  model = models.make_model()
  models.check_bindings(type(model), FLAGS.gin_param)
  model.check_mode(FLAGS.mode)
  options = render_flags.options_of(FLAGS, model)
  checkpoints.restore_model(model, folder)
  settings = {}
  if single is not None:
    descriptions.check_setting(FLAGS.single_dir, single[1], model.meanings())
    settings[evaluate.BEST_SINGLE_SETTING] = {'setting': single[0]}
  if 'n_plugins' in options:
    model.n_plugins = options['n_plugins']
  name = 'evaluation' if FLAGS.mode == 'eval' else 'samples'
  rows = evaluate.evaluate(
    model,
    output_dir=str(save_dir / name),
    with_metrics=FLAGS.mode == 'eval',
    settings=settings,
  )
  if described := evaluate.describe(model, rows):
    print(described)
  print(save_dir / name)


def main(argv):
  """Does what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {" ".join(argv[1:])}')
  _check_flags()
  _check_files()
  save_dir = _folders.expand_user(FLAGS.save_dir, '--save_dir')
  if FLAGS.local_workers is not None:
    train_mode.run_local(sys.argv[1:], FLAGS.local_workers, save_dir)
  _environment.demand_tensorflow()
  running.announce(f'dafx_run: {_describe_task()}; starting TensorFlow')
  running.prepare_tensorflow(FLAGS.seed, FLAGS.allow_memory_growth)
  with train_mode.workers(FLAGS) as workers:
    _do(save_dir, workers)


def _do(save_dir, workers):
  """Does what the flags say, once TensorFlow is there."""
  single = None
  if FLAGS.mode == 'eval' and FLAGS.single_dir:
    import gin

    from dafx.training import inference

    single = inference.load_setting(FLAGS.single_dir, *_allowed())
    gin.clear_config()
  if not _uses_saved():
    # They hold names that the files bind.
    import dafx.training.evaluation
    import dafx.training.matching
    import dafx.training.models
    import dafx.training.trainers  # noqa: F401

    for module in FLAGS.gin_module:
      importlib.import_module(module)
    gin_files.parse_gin(FLAGS.gin_file, FLAGS.gin_param)
  if FLAGS.settings is not None:
    match_mode.apply(FLAGS.settings, FLAGS.input, FLAGS.output)
  elif FLAGS.mode == 'match':
    match_mode.run(match_mode.plan_of(FLAGS), **match_mode.options(FLAGS))
  elif FLAGS.mode == 'train':
    train_mode.train(FLAGS, save_dir, workers)
  elif FLAGS.mode == 'profile':
    effect_modes.profile(dafx.training.models.make_model(), save_dir)
  elif FLAGS.mode == 'export' and not _uses_saved():
    model = dafx.training.models.make_model()
    print(effect_modes.check_export(model, FLAGS))
  else:
    _use(save_dir, single)


def console_entry_point():
  """The command dafx_run."""
  running.run('dafx_run', main, __doc__)


if __name__ == '__main__':
  console_entry_point()
