// Package aadpool is pgxpool with a Microsoft Entra ID (Azure AD) credential where the PostgreSQL password was.
//
//	cred, err := azidentity.NewDefaultAzureCredential(nil)
//	…
//	pool, err := aadpool.New(ctx, "postgres://orders-api@orders.postgres.database.azure.com/orders", cred)
//
// What comes back is a plain [pgxpool.Pool]. Each connection that it opens logs in with an access token that is fresh at
// that moment, and it hands out none whose token has ended. Nothing else of a program changes.
//
// # How rotation works
//
// A [Hook] holds one access token and looks at it when the pool opens a connection (BeforeConnect) and when it hands one
// out (PrepareConn):
//
//   - The token is fetched anew in the background from five minutes before its end, or a fifth of its life where that is
//     less, or from the time that the credential named (azcore.AccessToken.RefreshOn). Connects go on with the old one
//     meanwhile; only in the last 30 seconds of its life (or the last tenth, where that is less) do they wait for the new
//     one, and they go on with the old one if that fails. So they do, for three seconds at most, when a server has refused it.
//   - There is one fetch at a time, however many connects ask. A caller that stops waiting does not end it for the others.
//   - If a fetch fails while the token is good, nobody notices but the log, and it is tried again after 30 to 36 seconds,
//     sooner near the token's end. Without a good token connects fail with the cause and the time of the next try, at
//     once within a pause of 1 second that doubles to 5 (each longer by up to a fifth).
//   - PostgreSQL checks a token at login only, so a session would go on past its token's end. aadpool retires each
//     connection, when it is about to be handed out, at a random moment between its token's renewal and its end (if it is
//     renewed earlier than in the last tenth of its life, in that): a pool does not reconnect all at once, nor does a fleet.
//     While there is no newer token, a connection goes on until its own token ends.
//   - The pool's MaxConnLifetime and MaxConnLifetimeJitter are set so that their sum is the token's whole life. What the
//     DSN or the config gives stands unless the sum would be more. (A MaxConnLifetime that is set on the config to
//     pgxpool's own default of one hour cannot be told from one that is not set; put it into the DSN.)
//
// Nothing runs while a pool is idle, and there is nothing to close but the pool.
//
// # Where tokens go
//
// An access token is a bearer secret, and the server asks for it as a cleartext password. So what the DSN, PGSSLMODE or a
// service file says about TLS is understood thus:
//
//	sslmode                                         what happens
//	not set, prefer, allow                          verify-full, for every host; no fallback to plaintext
//	require, verify-ca, verify-full                 as it says
//	disable, to a loopback address or Unix socket   as it says
//	disable, to anything else                       an error
//
// require encrypts but does not verify who answers; use it only where the network does.
//
// A token is in no error, log record or value that this package makes. While a connection is being made, the
// [pgconn.Config] holds the token as its Password, as with any password. Once the connection is up, or the server has
// refused it, it holds it no more; but the config in a [pgconn.ConnectError] still does where the attempt ended in another
// way, such as by a failure of the network. For the same reason a connection's own config cannot be used to make another one.
//
// Whoever controls the DSN controls which server gets the token: treat it as configuration, not as input.
//
// # Errors
//
// Errors of this package start with "aadpool: ", say what to do, and wrap their cause where it is safe to show. When the
// server refuses a login, pgx's [pgconn.PgError] is what the caller gets; its Hint says the likely reason and what to do
// about it, and one warning with the same goes to the log (see [WithLogger]). (Of a login by OAUTHBEARER, which Azure does
// not use, pgx 5.12 tells no callback that it was refused; the caller gets pgx's error as it is.)
//
// # More than one pool
//
// [New] and [NewWithConfig] make a Hook for each pool. A primary and its replicas can share one, and so can single
// connections (LISTEN, migrations) and database/sql: see [NewHook], [Hook.Configure] and [Hook.BeforeConnect].
package aadpool
