"""The backend `sumcheck`: whole units, proved by `zkllm.engines.sumcheck`."""
