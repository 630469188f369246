# make book · make book-offline · make pdf · make test · make site-test · make test-backends · make test-checkpoints · make chapters · make serve …
# Each target sets up what it needs, once, in a virtual environment in the tree.

PYTHON ?= python3
BIN := .venv/bin
# Python compiles a file when it is imported; of those that are installed, most
# never are.
INSTALL := -m pip install --quiet --no-compile
# pip holds all that it installs against hashes, or nothing. Where other builds of
# PyTorch than the registry's are allowed, the lock gives the versions alone.
VERSIONS := sed -e '/--hash=/d' -e 's/ \\$$//' requirements.lock
LAYER_TESTS := --numprocesses 2 --dist worksteal \
	tests/test_sizes.py tests/test_arguments.py tests/test_layers.py \
	tests/test_window_attention.py tests/test_block.py tests/test_level.py \
	tests/test_model.py tests/test_load_weights.py tests/test_training.py \
	tests/test_gradients.py tests/test_variants.py tests/test_check.py \
	tests/test_fast_ops.py tests/test_quantization.py \
	tests/test_dense.py tests/test_hub.py
STRANGERS_TESTS := tests/test_limits.py tests/test_properties.py
LOADING_TESTS := tests/test_checkpoints.py tests/test_pretrained.py
FLOWERS_TESTS := tests/test_flowers.py tests/test_pipelines.py tests/test_tasks.py \
	tests/test_answers.py tests/test_resizing.py
# A full disk is the same to each backend and to each Keras; that a run goes on
# from a state is not.
RUNS_TESTS := tests/test_runs.py \
	--deselect tests/test_runs.py::test_a_full_disk_leaves_the_state_before
# What a test run does to a kernel or a log should not depend on the machine.
export TF_CPP_MIN_LOG_LEVEL ?= 3
# TensorFlow takes oneDNN's convolutions by default on some CPUs only, and there
# Keras's own Conv2D refuses an empty batch, or gives it another shape.
export TF_ENABLE_ONEDNN_OPTS ?= 0

.PHONY: book book-offline pdf serve test site-test test-backends test-checkpoints test-flowers test-weekly chapter chapters maps tables stamp benchmark lock release clean

book: .venv/ready
	$(BIN)/python tools/build_book.py

# One archive that opens without a server, and one PDF, which takes a Chromium.
book-offline: book
	$(BIN)/python tools/offline_book.py

pdf: book
	$(BIN)/python tools/print_book.py

serve: book
	$(BIN)/python -m http.server --directory _build/html

# The layers, the chapters against their modules, and every chapter rerun with
# its stored outputs compared.
# Chapters see no checkpoint but the package's own, and flowers drawn by code,
# network or not. The chapters come first: the longest tests are there, and the
# last ones should be short.
test: .venv/ready
	KERAS_BACKEND=tensorflow GCVIT_WEIGHTS=$(CURDIR)/gcvit/data \
		GCVIT_FLOWERS=drawn $(BIN)/python -m pytest --nbval --nbval-current-env \
		--numprocesses 2 --dist loadfile --no-loadscope-reorder \
		--suite test book tests

# The built book in Chromium. Screenshots are in _build/screenshots. The other
# tests' conftest.py would import Keras. Where there is no Chromium there is no
# PDF; where there is one, its tests fail if it could not be printed.
site-test: book-offline
	-$(BIN)/python tools/print_book.py
	$(BIN)/python -m pytest tests/site --confcutdir tests/site \
		--numprocesses 2 --dist worksteal --suite site

# The layers on each backend, and on the oldest stack that the package declares,
# which takes pretrained models, too.
test-backends: test-tensorflow test-jax test-torch test-oldest

test-tensorflow: .venv/ready
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(LAYER_TESTS)

test-jax: .venv-jax/ready
	KERAS_BACKEND=jax .venv-jax/bin/python -m pytest $(LAYER_TESTS) --suite jax

# PyTorch reads its own files, and trains; the chapter `scale` has a program for
# it. Once a week it does all that TensorFlow does.
test-torch: .venv-torch/ready
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest $(LAYER_TESTS) \
		$(LOADING_TESTS) tests/test_flowers.py::test_everything_at_once \
		tests/test_scale.py::test_the_program_for_torch_does_what_one_process_does \
		--suite torch

# What `check` says, and what is read without Keras, is the same to each Keras.
SAME_TESTS := tests/test_check.py tests/test_checkpoints.py
test-oldest: .venv-oldest/ready
	KERAS_BACKEND=tensorflow .venv-oldest/bin/python -m pytest \
		$(filter-out $(SAME_TESTS),$(LAYER_TESTS) $(LOADING_TESTS)) \
		--suite oldest

# PyTorch's files can be read under every backend, if PyTorch is there too. What
# needs no PyTorch, `make test` loads with TensorFlow; the rest has a condition.
test-checkpoints: .venv-torch/ready
	KERAS_BACKEND=tensorflow .venv-torch/bin/python -m pytest \
		--numprocesses 2 --dist worksteal $(LOADING_TESTS) \
		$(STRANGERS_TESTS) -m skipif --suite checkpoints

# Every backend can be fine-tuned on TensorFlow's pipelines: `make test` does it
# with TensorFlow, `make test-torch` with PyTorch. Only JAX takes a model's
# variables away while it trains, so here a run that was cut is tested. What JAX
# does in several processes, `make test` tries.
test-flowers: .venv-torch/ready
	KERAS_BACKEND=jax .venv-torch/bin/python -m pytest \
		--numprocesses 2 --dist worksteal $(RUNS_TESTS) tests/test_answers.py \
		--deselect tests/test_answers.py::test_processes_share_the_work \
		--suite flowers

# What breaks with a new release of others rather than with a change here: once
# a week. In one test JAX's own optimisations are on.
test-weekly: .venv/ready .venv-torch/ready .venv-oldest/ready
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest \
		--numprocesses 2 --dist loadfile -m weekly tests --suite weekly
	KERAS_BACKEND=tensorflow .venv-oldest/bin/python -m pytest \
		--numprocesses 2 --dist worksteal $(FLOWERS_TESTS) $(RUNS_TESTS) \
		$(SAME_TESTS) --suite weekly-oldest
	KERAS_BACKEND=jax XLA_FLAGS= .venv-torch/bin/python -m pytest \
		-m weekly tests/test_model.py --suite weekly-compiled
	KERAS_BACKEND=jax .venv-torch/bin/python -m pytest \
		--numprocesses 2 --dist worksteal $(LOADING_TESTS) \
		$(FLOWERS_TESTS) tests/test_exporting.py --suite weekly-jax
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest \
		--numprocesses 2 --dist worksteal $(FLOWERS_TESTS) \
		tests/test_exporting.py --suite weekly-torch

# Today's newest of everything, and tomorrow's Keras, for which there is no
# TensorFlow: not pinned, and not counted.
test-newest: BACKENDS := tensorflow jax torch
test-nightly: BACKENDS := jax torch
test-newest test-nightly: test-%: .venv-%/ready
	for backend in $(BACKENDS); do \
		KERAS_BACKEND=$$backend .venv-$*/bin/python -m pytest \
			$(LAYER_TESTS) $(LOADING_TESTS) || exit 1; \
	done

# Regenerate the modules, rerun the chapters, store their outputs.
# NAMES="block level" takes these chapters only.
chapters: .venv/ready
	$(BIN)/python tools/chapters.py $(NAMES)

# After a change of the map of the model, redraw it in each chapter.
maps: .venv/ready
	$(BIN)/python tools/chapters.py --maps $(NAMES)

# Lay down a new chapter: NAME=cross_attention, perhaps TITLE="Attention across",
# and AFTER=block where it is not the last one.
chapter: .venv/ready
	$(BIN)/python tools/new_chapter.py $(NAME) $(if $(TITLE),"$(TITLE)") \
		$(if $(AFTER),--after $(AFTER))

# The tables of the architecture page, and GCViT on one page.
tables: .venv/ready
	$(BIN)/python tools/tables.py
	$(BIN)/python tools/one_page.py

# Write the address in _config.yml everywhere it stands.
stamp: .venv/ready
	$(BIN)/python tools/stamp.py

# Compare the speed with other implementations; takes about 20 minutes.
benchmark: .venv-benchmarks/ready
	.venv-benchmarks/bin/python benchmarks/speed.py
	.venv-benchmarks/bin/python benchmarks/parts.py

# Pin what pyproject.toml asks for. Versions stay as they are pinned:
# OPTIONS=--upgrade takes the newest, "OPTIONS=--upgrade-package keras" of one.
lock: .venv/ready
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--extra site --no-header --no-annotate --no-emit-index-url \
		--no-emit-package gcvit-book --generate-hashes $(OPTIONS) \
		--output-file requirements.lock pyproject.toml

# The wheel and the source archive of the last commit in dist/, checked.
release: .venv/ready
	$(BIN)/python tools/release.py

clean:
	rm -rf _build build dist .venv .venv-jax .venv-torch .venv-oldest \
		.venv-newest .venv-nightly .venv-benchmarks tools/onnxruntime_web/node_modules

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python $(INSTALL) --require-hashes --requirement requirements.lock
	$(BIN)/python $(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

# Newest Keras: the book's own, from the lock.
.venv-jax/ready .venv-torch/ready: .venv-%/ready: \
		tests/backends/%.txt requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-$*
	$(VERSIONS) > .venv-$*/versions.txt
	.venv-$*/bin/python $(INSTALL) --requirement tests/backends/$*.txt \
		--constraint .venv-$*/versions.txt
	.venv-$*/bin/python $(INSTALL) --no-deps --editable .
	touch $@

.venv-benchmarks/ready: benchmarks/requirements.txt benchmarks/peers.txt \
		requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-benchmarks
	$(VERSIONS) > .venv-benchmarks/versions.txt
	.venv-benchmarks/bin/python $(INSTALL) \
		--requirement benchmarks/requirements.txt \
		--constraint .venv-benchmarks/versions.txt
	.venv-benchmarks/bin/python $(INSTALL) --no-deps \
		--requirement benchmarks/peers.txt
	.venv-benchmarks/bin/python $(INSTALL) --no-deps --editable .
	touch $@

.venv-oldest/ready .venv-newest/ready .venv-nightly/ready: .venv-%/ready: \
		tests/backends/%.txt pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python $(INSTALL) --requirement tests/backends/$*.txt
	.venv-$*/bin/python $(INSTALL) --no-deps --editable .
	touch $@
