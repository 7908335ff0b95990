"""FLOPs, memory, throughput and prices: measured numbers in, money out. Vectorised; knows neither plans nor Kubernetes."""
