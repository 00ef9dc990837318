// Package aadpool is pgxpool for Azure Database for PostgreSQL, with a Microsoft Entra ID (Azure AD) credential in
// place of the password.
//
//	cred, err := azidentity.NewDefaultAzureCredential(nil)
//	// …
//	pool, err := aadpool.New(ctx, "postgres://orders-api@orders.postgres.database.azure.com/orders", cred)
//
// [New] returns a plain [pgxpool.Pool]. Each connection logs in with an access token that is valid at that moment,
// and the pool never hands out one whose token has expired. Three things change beside the password: TLS (below),
// MaxConnLifetime, and what a DSN may hold; [docs/migrating.md] has them. There is nothing to close but the pool.
//
// # Rotation
//
// A [Hook] holds one access token. It looks at the token when the pool opens a connection and when it hands one out;
// nothing runs while a pool is idle, unless a program calls [Hook.KeepFresh].
//
//   - The token is renewed in the background before it expires. Connects use the one at hand meanwhile.
//   - There is one request to the credential at a time, however many connects want a token. A caller that stops waiting
//     does not end the request for the others.
//   - A renewal that fails while the token is valid fails no connect. Once a request has failed and no token is valid,
//     connects fail with the cause: at once within the pause before the next request, and after a second at most while
//     a request is under way.
//   - PostgreSQL checks a token at login only, so a session would go on past its token's expiry. aadpool retires each
//     connection at a random moment shortly before, so that neither a pool nor a fleet reconnects all at once. The
//     next connection is opened in the background meanwhile. A running query is never cut off.
//   - MaxConnLifetime and MaxConnLifetimeJitter are set to match the token's life. One that Entra has drawn at random
//     counts as the longest of those, 90 minutes. What the DSN or the config gives stands if it is shorter.
//
// All the margins and pauses are in [docs/rotation.md].
//
// # TLS
//
// An access token is a bearer secret, and the server asks for it as a cleartext password. So without an sslmode, and
// with prefer or allow, the server is verified in full (verify-full), and there is no fallback to plaintext. disable
// is for loopback addresses and Unix sockets; to anything else it is [ErrPlaintext]. require encrypts, and verifies
// nobody: use it only where the network makes sure who answers. All the rules are in [docs/networking.md].
//
// # Where tokens go
//
// No error, log record or value of this package holds a token. pgx's own copy of the [pgconn.Config] has it as the
// Password from when the server asks for it until pgx has encoded the answer, and at no other time: no callback or
// tracer sees it there, nor does the config in a [pgconn.ConnectError]. [docs/security.md] has the whole model.
//
// Whoever controls the DSN controls which server gets the token. Treat the DSN as configuration, not as input.
//
// # Errors
//
// Errors of this package start with "aadpool: ", say what to do, and wrap their cause where that is safe to show.
//
//   - [TokenError]: there is no access token to log in with.
//   - [ErrPlaintext]: the connection would have sent a token in the clear.
//   - A [pgconn.PgError] for which [Explain] reports true: the server refused the login. The likely reason and the fix
//     stand in its message, behind the server's own words, and in its Hint. The log has one warning with the same.
//
// Warnings go to [slog.Default] or to the logger of [WithLogger]. They include those of background connects, whose
// errors pgxpool drops. [WithObserver] is for traces and metrics.
//
// # More than one pool
//
// [New] and [NewWithConfig] make a Hook for each pool, which [HookOf] returns: for its [Stats], or to share its
// token. Pools share one by [Hook.NewPool], single connections (LISTEN, migrations) by [Hook.BeforeConnect],
// database/sql by that and [Hook.ResetSession].
//
// [docs/migrating.md]: https://github.com/aadpool/aadpool/blob/main/docs/migrating.md
// [docs/networking.md]: https://github.com/aadpool/aadpool/blob/main/docs/networking.md
// [docs/rotation.md]: https://github.com/aadpool/aadpool/blob/main/docs/rotation.md
// [docs/security.md]: https://github.com/aadpool/aadpool/blob/main/docs/security.md
package aadpool
