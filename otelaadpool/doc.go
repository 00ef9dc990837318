// Package otelaadpool exports how an [aadpool.Hook] is doing as OpenTelemetry metrics: when its access token ends,
// whether renewing it works, and what becomes of logins and connections.
//
//	registration, err := otelaadpool.Register(hook)
//	…
//	defer registration.Unregister()
//
// The instruments are asynchronous: [aadpool.Hook.Stats] is read once per collection, and nothing is added to a
// connect, an acquire or a query.
//
//	name                               instrument   unit          what it is
//	aadpool.token.time_to_expiry       gauge        s             life left of the token at hand; negative once it has ended
//	aadpool.token.fetches              counter      {fetch}       requests to the credential that have ended
//	aadpool.token.fetch.last_duration  gauge        s             how long the last of them took
//	aadpool.token.waits                counter      {wait}        connects that had to wait for a token
//	aadpool.login.rejections           counter      {rejection}   logins that the server refused
//	aadpool.connection.retirements     counter      {retirement}  pooled connections closed because their token was about to end
//
// aadpool.token.fetches has the attribute error.type, with the value _OTHER, on fetches that brought no valid token,
// and none on the others, as https://opentelemetry.io/docs/specs/semconv/general/recording-errors/ has it. Both are
// reported from the start. The gauges are not reported until there is something to say: before the first token and
// the first fetch.
//
// The names follow https://opentelemetry.io/docs/specs/semconv/general/naming/. Prometheus sees them as
// aadpool_token_time_to_expiry_seconds, aadpool_token_fetches_total and so on; the README has the list, a dashboard and
// alert rules for them.
package otelaadpool
