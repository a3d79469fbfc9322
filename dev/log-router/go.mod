// A log router for end-to-end tests: dev/tools.sh engines.
module tallyman.dev/dev/log-router

go 1.26.0

require (
	github.com/IBM/fluent-forward-go v0.4.0
	github.com/tinylib/msgp v1.4.0
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/philhofer/fwd v1.2.0 // indirect
)
