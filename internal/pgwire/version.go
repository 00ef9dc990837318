package pgwire

import (
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// NegotiateVersion returns the message that tells a client which version it gets, newest at most, and which of its
// protocol options nobody knows. It returns nil for a client that gets what it asks for.
// https://www.postgresql.org/docs/current/protocol-message-formats.html (NegotiateProtocolVersion)
func NegotiateVersion(startup *pgproto3.StartupMessage, newest uint32) *pgproto3.NegotiateProtocolVersion {
	names := slices.Sorted(maps.Keys(startup.Parameters))
	options := slices.DeleteFunc(names, func(name string) bool { return !isProtocolOption(name) })
	if startup.ProtocolVersion <= newest && len(options) == 0 {
		return nil
	}
	return &pgproto3.NegotiateProtocolVersion{
		NewestMinorProtocol: min(newest, startup.ProtocolVersion), // as PostgreSQL does, the whole version
		UnrecognizedOptions: options,
	}
}

func isProtocolOption(name string) bool { return strings.HasPrefix(name, "_pq_.") }
