// Package otelaadpool exports what an [aadpool.Hook] does as OpenTelemetry metrics and traces: when its access token
// ends, whether renewing it works, which connects wait for it, and what becomes of logins and connections.
//
// There are two parts, for use alone or together. [Register] exports counts and the token's end, of any pool:
//
//	hook, _ := aadpool.HookOf(pool)
//	registration, err := otelaadpool.Register(hook)
//	…
//	defer registration.Unregister()
//
// Its instruments are asynchronous: [aadpool.Hook.Stats] is read once per collection, and nothing is added to a
// connect, an acquire or a query. [NewObserver] exports each event as it happens, with durations, reasons and spans. It
// is an option of the pool:
//
//	observer, err := otelaadpool.NewObserver()
//	…
//	pool, err := aadpool.New(ctx, dsn, cred, aadpool.WithObserver(observer))
//
// # Metrics of Register
//
//	name                               instrument  unit          what it is
//	aadpool.token.time_to_expiry       gauge       s             life left of the token at hand, or negative
//	aadpool.token.fetches              counter     {fetch}       requests to the credential that have ended
//	aadpool.token.fetch.last_duration  gauge       s             how long the last of them took
//	aadpool.token.waits                counter     {wait}        connects that had to wait for a token
//	aadpool.login.refused           counter     {login}   logins that the server refused
//	aadpool.connection.retirements     counter     {retirement}  connections closed for newer ones
//
// aadpool.token.fetches has the attribute error.type, with the value _OTHER, on fetches that brought no valid token,
// and none on the others, as https://opentelemetry.io/docs/specs/semconv/general/recording-errors/ has it. Both are
// reported from the start. The gauges are not reported until there is something to say: before the first token and the
// first fetch.
//
// # Metrics of NewObserver
//
//	name                                          instrument  unit       what it is
//	aadpool.token.fetch.duration                  histogram   s          how long requests to the credential took
//	aadpool.token.wait.duration                   histogram   s          how long connects waited for a token
//	aadpool.login.refusals                        counter     {refusal}  logins that the server refused, by reason
//	aadpool.connection.retirement.time_to_expiry  histogram   s          life left of a retired connection's token
//
// The count of a histogram is that of the events. The events are those that Register counts, under names of their own:
// nothing is counted twice. The attributes are:
//
//   - aadpool.token.fetch.cause, of fetches: an [aadpool.FetchCause].
//   - error.type, of fetches and waits that brought no token: Entra's code, such as AADSTS7000215, the status of an
//     HTTP response, timeout, canceled, or _OTHER.
//   - aadpool.login.refusal.reason, of refusals: an [aadpool.Reason]; with db.response.status_code, the SQLSTATE, and
//     server.address and server.port.
//
// # Spans of NewObserver
//
// "fetch access token" is a child of the span in whose context the fetch was caused: that of an acquire, a connect, or
// the making of a pool. "wait for access token" is in the trace of each connect that waited, with a link to the fetch.
// Both have the attribute aadpool.token.scope; a fetch has aadpool.token.fetch.cause, and aadpool.token.expires
// (RFC 3339) if it brought a token. One that failed has error.type and the status Error, described by the one sentence
// of the credential's error that matters. No span and no metric holds a token.
//
// # Names
//
// The names follow https://opentelemetry.io/docs/specs/semconv/general/naming/. Prometheus sees them as
// aadpool_token_time_to_expiry_seconds, aadpool_token_fetches_total and so on; the README has the list, a dashboard and
// alert rules for them.
package otelaadpool
