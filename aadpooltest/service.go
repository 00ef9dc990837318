package aadpooltest

import "context"

// A Service is what the tests of one service need: an [Authority], a [Server], and a service principal whose role owns
// a database.
type Service struct {
	Authority *Authority
	Server    *Server
	// Principal logs in: its ClientID and Secret are for a ClientSecretCredential.
	Principal Principal
	// DSN names the server, the database and the principal's role.
	DSN string
}

// NewService makes all of a [Service] in front of pg. The principal is named role, as its role is. [Service.Close] ends
// it; pg goes on, and keeps the database: tests that share pg name one each. It fails if there is a database of that
// name.
func NewService(ctx context.Context, pg *Postgres, database, role string) (*Service, error) {
	authority, err := NewAuthority()
	if err != nil {
		return nil, err
	}
	server, err := NewServer(authority, pg)
	if err != nil {
		authority.Close()
		return nil, err
	}
	s := &Service{Authority: authority, Server: server,
		Principal: authority.Register(Principal{Kind: ServicePrincipal, Name: role})}
	if s.DSN, err = server.CreateDatabase(ctx, database, role); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close ends the server's sessions and both stand-ins.
func (s *Service) Close() {
	s.Server.Close()
	s.Authority.Close()
}
