package aadpooltest

import "github.com/jackc/pgx/v5/pgconn"

// Phase is a moment of a login at which a [Server] can be made to drop or stall.
type Phase int

const (
	// PhaseAccept: the TCP connection is there, and nothing has been read from it.
	PhaseAccept Phase = iota + 1
	// PhaseSSLRequest: the client has asked for TLS and has had no answer. With sslnegotiation=direct it never asks.
	PhaseSSLRequest
	// PhaseTLS: the TLS handshake is done.
	PhaseTLS
	// PhaseStartup: the startup message, with the role and the database, has been read.
	PhaseStartup
	// PhasePassword: the access token has been read, and nothing has been answered.
	PhasePassword
)

// Fault is a way for a [Server] to fail: see [Server.SetFault]. The zero Fault is none.
type Fault struct {
	kind    faultKind
	phase   Phase
	refusal *pgconn.PgError
}

type faultKind int

const (
	noFault faultKind = iota
	dropFault
	stallFault
	refuseFault
	downgradeFault
)

// DropAt cuts the TCP connection in the phase.
func DropAt(p Phase) Fault { return Fault{kind: dropFault, phase: p} }

// StallAt stops answering in the phase. The login goes on when the fault is replaced. Else it ends with
// [Server.CloseConnections] or [Server.Close], or after a minute, as with PostgreSQL's authentication_timeout.
func StallAt(p Phase) Fault { return Fault{kind: stallFault, phase: p} }

// RefuseLogins refuses every access token, good or bad, with this SQLSTATE and message: "53300" and "too many
// connections for role", for example. The codes: https://www.postgresql.org/docs/current/errcodes-appendix.html.
func RefuseLogins(sqlState, message string) Fault {
	return Fault{kind: refuseFault, refusal: fatal(sqlState, message)}
}

// Downgrade does what an attacker between client and server would: it answers that there is no TLS, and asks a client
// that goes on nevertheless for its password in the clear. What comes is counted by [ServerStats.PlaintextPasswords],
// and refused.
func Downgrade() Fault { return Fault{kind: downgradeFault} }
