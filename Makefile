# make quickstart   from nothing to a dense / SWA / MTP / SWA+MTP table
# make test         lint, types, the patches' audit, and the whole suite

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: quickstart test lint check-patches test-onto upstream-tests sanitize bench bench-binding bench-cluster \
	bench-miniature bench-server-auto soak soak-cluster train-miniature clean

quickstart: $(VENV)/.installed
	$(BIN)/llt build --cpu
	$(BIN)/llt sweep configs/quickstart.yaml

test: $(VENV)/.installed-test lint check-patches
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Is the series sound, and does it apply at the pin?
check-patches: $(VENV)/.installed
	$(BIN)/llt patches audit
	$(BIN)/llt rebase --check

# The same modes, recipes and programs on another upstream version: make test-onto ONTO=v0.4.0, or without a patch that
# does not apply there: make test-onto ONTO=v0.5.0 WITHOUT=small-graphs
test-onto: $(VENV)/.installed-test
	LLT_TEST_ONTO=$(ONTO) LLT_TEST_WITHOUT=$(WITHOUT) $(BIN)/python -m pytest tests/engine/test_parity.py tests/engine/test_chain.py tests/engine/test_programs.py

# Upstream's own tests on the patched tree as on the stock one: fails where only the patched one fails
upstream-tests: $(VENV)/.installed-test
	$(BIN)/python -m tests.upstream

# The engine's tests with our C++ under AddressSanitizer, LeakSanitizer and UBSan (gcc)
sanitize: $(VENV)/.installed-test
	LLT_TEST_SANITIZE=1 $(BIN)/python -m pytest tests/engine -m "not vulkan" $(PYTEST_ARGS)

# How long the quickstart, `rebase --check` and `drift` take, what a sweep costs, how fast the engine is, how
# far advice is off, what a draft length that steers itself gains, how near near ties are (half a day)
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/quickstart.py
	$(BIN)/python benchmarks/stack_check.py
	$(BIN)/python benchmarks/stack_drift.py
	$(BIN)/llt build --cpu --tools
	$(BIN)/python benchmarks/sweep_cost.py
	$(BIN)/python benchmarks/sweep_aa.py
	$(BIN)/python benchmarks/engine_speed.py
	$(BIN)/python benchmarks/engine_profile.py
	$(BIN)/python benchmarks/advise_error.py
	$(BIN)/python benchmarks/scale_simulation.py --seeds 9
	$(BIN)/python benchmarks/control_simulation.py
	$(BIN)/llt build --cpu --without conv-snapshots
	$(BIN)/python benchmarks/mtp_idle.py
	$(BIN)/llt build --cpu --without small-graphs
	$(BIN)/python benchmarks/small_graphs.py
	$(BIN)/python benchmarks/draft_auto.py
	$(BIN)/python benchmarks/server_auto.py
	$(BIN)/python benchmarks/server_beside.py
	$(BIN)/llt build --cpu --tools --onto b10068
	$(BIN)/python benchmarks/server_slots.py --variant patched --variant patched-onto-b10068
	$(BIN)/python benchmarks/near_ties.py
	$(BIN)/python benchmarks/catch_up.py
	$(BIN)/python benchmarks/after_draft.py

# The engine's speed once more, now beside llama-cpp-python too, which is compiled for this (in a venv of its own)
bench-binding: $(VENV)/.installed
	test -x $(VENV)-binding/bin/python || $(PYTHON) -m venv $(VENV)-binding || { rm -rf $(VENV)-binding; exit 1; }
	$(VENV)-binding/bin/python -m pip install --quiet llama-cpp-python
	$(BIN)/llt build --cpu --tools
	$(BIN)/python benchmarks/engine_speed.py --binding $(VENV)-binding/bin/python

# What the card of the miniature claims: texts, cost of a draft, recall, acceptance with and without a window (half an hour)
bench-miniature: $(VENV)/.installed
	$(BIN)/llt build --cpu
	$(BIN)/python benchmarks/miniature_text.py
	$(BIN)/python benchmarks/miniature_steps.py
	$(BIN)/python benchmarks/miniature_recall.py
	$(BIN)/python benchmarks/miniature_acceptance.py

# A sweep through a one-box cluster over the same sweep without (half an hour)
bench-cluster: $(VENV)/.installed-test
	$(BIN)/llt build --cpu
	$(BIN)/python benchmarks/cluster_overhead.py

# --spec-draft-auto through llama-server against plain decode and every fixed draft length (a quarter of an hour)
bench-server-auto: $(VENV)/.installed
	$(BIN)/llt build --cpu --tools
	$(BIN)/python benchmarks/server_auto.py

# The full number of kills of a sweep and of its workers, and of rollbacks (about half an hour)
soak: $(VENV)/.installed-test
	$(BIN)/llt build --cpu --tools
	LLT_KILLS=50 LLT_WORKER_KILLS=20 $(BIN)/python -m pytest tests/sweep/test_kill.py
	LLT_TORTURE=12 $(BIN)/python -m pytest tests/engine/test_rollback.py

# Three boxes in network namespaces of their own: a worker and the scheduler killed, a network cut (root, a few minutes)
soak-cluster: $(VENV)/.installed-test
	$(BIN)/llt build --cpu
	$(BIN)/python benchmarks/cluster_kills.py

# Train the miniature anew (20 million tokens, two cores: about two hours); make train-miniature TRAIN_ARGS='--resume --out DIR'
train-miniature: $(VENV)/.installed-train
	$(BIN)/python -m training $(TRAIN_ARGS)

clean:
	rm -rf $(VENV) $(VENV)-binding .pytest_cache .mypy_cache .ruff_cache .hypothesis

# What is left of one that failed, as without Debian's python3-venv, would pass for made.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing llt and what it needs into $(VENV)"
	$(BIN)/python -m pip install --quiet --editable '.[report]'
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "installing llt, what it needs and what its tests need into $(VENV)"
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-train: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[train,report]'
	touch $@ $(VENV)/.installed
