# Two commands do everything on a machine with Python 3.11+ and make: `make demo` (`demo-stay`) and `make test`.
.DEFAULT_GOAL := help
.PHONY: help install demo demo-stay test check docs format bench up clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

help: ## 列出全部目标 (list the targets)
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## 安装到 .venv (install into .venv, at the locked versions)

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "需要 Python 3.11 以上 (Python 3.11+ is needed)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable . --group dev
	$(BIN)/hongyan fetch
	@touch $@

demo: install ## 演示全过程 (start everything, push certificates, count December 2025)
	$(BIN)/hongyan demo

demo-stay: install ## 演示后留着运行，打印怎样登录门户 (the same, and keep it running for a look into the portal)
	$(BIN)/hongyan demo --stay $(ARGS)

up: install ## 启动一套完整系统 (start an installation and keep it running)
	$(BIN)/hongyan up

test: install ## 全部测试，含真实 Kafka 与 PostgreSQL (all tests, real servers included)
	$(BIN)/python -m pytest $(ARGS)

check: install ## 格式、类型、依赖方向 (formatting, types, import contracts)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hongyan schema check --docs docs/reference
	$(BIN)/python -m services.runtime.metrics_page --check
	$(BIN)/python -m bench.table --check

docs: install ## 由模式与目录生成 docs/reference (write the reference of all event types)
	$(BIN)/hongyan schema docs
	$(BIN)/python -m services.runtime.metrics_page
	$(BIN)/python -m services.delivery.guarantee docs/delivery-guarantee.md

format: install ## 整理格式 (format the code)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## 测量，ONLY=name 只测一项 (measure against bare loops; ONLY=name for one)
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

clean: ## 删除环境与本地数据 (remove the environment and local data)
	rm -rf $(VENV) .hongyan .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
