# Every verb works alone on a fresh clone: it needs Python 3.11 or newer, make, and nothing else.
# PYTHON=python3.12 picks another interpreter for the virtual environment.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

NPM := build/npm/node_modules

RELEASE := build/release

.PHONY: help serve test check coverage fuzz clients kills replicas bench train browser screenshots clean \
	image-test release release-test licences sbom
.DEFAULT_GOAL := help

help: ## say what the verbs do
	@sed -n 's/^\([a-z-]*\):.*## /make \1 \t/p' $(MAKEFILE_LIST) | expand -t 20

serve: $(READY) ## run the server on port 8000 with the bundled model
	$(BIN)/unmask serve

# Two processes of one thread each: torch's threads would get in each other's way. What `coverage` runs
# has the threads of the machine.
test: $(READY) ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY) ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(READY) ## what the quick tests of sampling, editing and the engine reach, and its floor
	$(BIN)/coverage run -m pytest -q -m "not slow" \
		tests/sampling tests/editing tests/server/engine tests/test_pipeline.py tests/test_clip_pipeline.py
	$(BIN)/coverage report --include='unmask/sampling/*' --fail-under=97
	$(BIN)/coverage report --include='unmask/editing/*' --fail-under=97
	$(BIN)/coverage report --include='unmask/server/engine/*' --fail-under=95

fuzz: $(READY) ## send the server thousands of requests made up from its document, and hostile files
	FUZZ_CASES=2000 $(BIN)/python -m pytest tests/server/http/test_schemathesis.py
	HOSTILE_CASES=6000 $(BIN)/python -m pytest -s tests/server/http/test_hostile.py

# LiteLLM asks for older libraries than those of constraints.txt, so it gets a place of its own.
clients: $(READY) ## run LiteLLM, unchanged, against the server
	$(PYTHON) -m venv $(VENV)/litellm
	$(VENV)/litellm/bin/python -m pip install --quiet --disable-pip-version-check \
		litellm==1.110.2 pillow
	LITELLM_PYTHON=$(VENV)/litellm/bin/python \
		$(BIN)/python -m pytest tests/server/http/test_other_clients.py

kills: $(READY) ## kill a server, and one of two replicas, fifty times while they draw jobs
	KILLS=50 $(BIN)/python -m pytest -q -s tests/server/jobs/test_kills.py

replicas: $(READY) ## install Ray; kill, exchange and scale its replicas under load
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[ray]' -c constraints.txt
	$(BIN)/python -m pytest -q tests/server/replicas

bench: $(READY) ## run the benchmarks
	$(BIN)/python -m benchmarks.generate
	$(BIN)/python -m benchmarks.sampling
	$(BIN)/python -m benchmarks.serving

browser: ## get what tests want of elsewhere: Chromium and Firefox (Debian); axe-core, typescript and openai (npm)
	command -v chromium >/dev/null || { apt-get update -q && \
		apt-get install -qy --no-install-recommends chromium fonts-dejavu-core; } || \
		echo "no chromium: the tests of the page will skip"
	command -v firefox-esr >/dev/null || apt-get install -qy --no-install-recommends firefox-esr || \
		echo "no firefox: the tests of the page in it will skip"
	test -d $(NPM)/openai || npm install --silent --no-audit --no-fund --ignore-scripts \
		--prefix build/npm axe-core@4.14.1 typescript@7.0.2 openai@7.57.0 || \
		echo "no npm: axe-core's rules, the types of the page and node's openai will skip"

screenshots: $(READY) ## take the pictures of the page for docs/images (needs Chromium)
	$(BIN)/python -m benchmarks.screenshots

image-test: $(READY) ## build the image without a daemon, run it, and hold it to what is said of it
	deploy/image_test.sh

release: $(READY) ## build the sdist and the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

# An environment of its own holds what the wheel alone brings, and the server's extra.
release-test: release ## install the wheel into a fresh environment, serve and draw with it
	rm -rf $(RELEASE)
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check \
		"$$(grep '^torch==' constraints.txt)" "$$(echo dist/*.whl)[server]" -c constraints.txt
	RELEASED_UNMASK=$(CURDIR)/$(RELEASE)/bin/unmask $(BIN)/python -m pytest -q tests/test_release.py

$(RELEASE)/bin/unmask:
	$(MAKE) release-test

licences: $(RELEASE)/bin/unmask ## list what a released server is made of, with versions and licences
	@$(BIN)/pip-licenses --python=$(RELEASE)/bin/python --from=mixed --order=license

sbom: $(RELEASE)/bin/unmask ## write the same for machines: CycloneDX, into dist/sbom.json
	$(BIN)/cyclonedx-py environment $(RELEASE)/bin/python --pyproject pyproject.toml \
		--output-reproducible --output-file dist/sbom.json

train: $(READY) ## train the small models into runs/small; DATA=path names the sprite archive
	@test -n "$(DATA)" || { \
		echo "make train needs DATA=path: the emoji sprite archive (.zip) or sprite bank (.npz)."; \
		echo "To train on a folder of your own captioned pictures see docs/training.md."; \
		exit 2; }
	$(BIN)/unmask train tokenizer configs/small/tokenizer.toml --out runs/small/tokenizer --data "$(DATA)"
	$(BIN)/unmask train tokenizer configs/small/decoder.toml --out runs/small/decoder \
		--tokenizer runs/small/tokenizer/model --data "$(DATA)"
	$(BIN)/unmask train transformer configs/small/transformer.toml --out runs/small/transformer \
		--tokenizer runs/small/decoder/model --data "$(DATA)"

clean: ## remove the virtual environment and caches; runs/ stays
	rm -rf $(VENV) build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch is named with its exact version, so that pip takes the build at hand and looks for no other.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		"$$(grep '^torch==' constraints.txt)" -e '.[server,traces,train,checkpoints,dev]' -c constraints.txt
	touch $(READY)
