package aadpooltest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// loginTimeout is the default of PostgreSQL's authentication_timeout:
// https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-AUTHENTICATION-TIMEOUT
const loginTimeout = time.Minute

// acceptRetry is the pause after a failed accept, which is mostly for want of file descriptors.
const acceptRetry = 10 * time.Millisecond

// AuthMethod is how a [Server] asks for the access token.
type AuthMethod string

const (
	// CleartextPassword asks for the token as a password in clear text, inside TLS: what Azure does.
	CleartextPassword AuthMethod = "password"
	// OAuthBearer asks for it by SASL OAUTHBEARER (RFC 7628), as PostgreSQL 18 and later can.
	OAuthBearer AuthMethod = "oauthbearer"
)

// Login is one attempt to log in to a [Server] that came to an end: the client was let in or refused.
type Login struct {
	Time     time.Time // when it was decided
	Role     string    // the user name of the startup message
	Database string    // the database asked for
	Method   AuthMethod
	// Principal is the name of the principal that the token is for, and TokenExpiresAt the token's exp. Both are zero
	// when the token could not be verified.
	Principal      string
	TokenExpiresAt time.Time
	// SQLState and Message say why the login was refused. They are empty when it was let in.
	SQLState, Message string
}

// ServerStats counts what a [Server] has seen.
type ServerStats struct {
	Connections       int // TCP connections accepted
	Sessions          int // sessions open now
	PlaintextStartups int // startup messages that came without TLS
	// PlaintextPasswords counts the passwords and tokens that came without TLS, which only [Downgrade] asks for.
	PlaintextPasswords int
}

// Server is a stand-in for Azure Database for PostgreSQL on 127.0.0.1: it speaks TLS, asks for an Entra access token at
// login, checks it with an [Authority], and then passes everything through to a real PostgreSQL server. Make one with
// [NewServer].
//
// A token is let in when the authority verifies it for the server's audience, and the role asked for is the name of
// the token's principal (case-sensitive) or of a group that the principal is a member of. At the first login of a role
// the server creates it in PostgreSQL, where in Azure an administrator does: see [Server.SetCreateRoles]. Refusals
// have Azure's wording. Their SQLSTATE is 28P01 for "password authentication failed", else 28000.
//
// # Entra administrators
//
// A principal registered with Administrator set has a role on the server, a member of azure_pg_admin with CREATEROLE
// and CREATEDB. It has the functions that Azure documents, in the database postgres: pgaadauth_create_principal,
// pgaadauth_create_principal_with_oid and pgaadauth_list_principals. A role that they create is labelled with an
// object ID, and is let in by the token of that principal, or of a member of that group. A principal that is
// registered again with another object ID is refused, as on Azure one that was deleted and made again: a service
// principal or a managed identity as "oid mismatch". Of the errors' words only those for a principal that is not found,
// or is of another type or object ID, are known to be Azure's. The statement SECURITY LABEL is not there. Roles and
// labels are PostgreSQL's: tests that share one use names of their own.
// https://learn.microsoft.com/azure/postgresql/security/security-manage-entra-users
//
// # Sessions
//
// The sessions are real ones, cancel requests included. On a server that [StartPostgres] started they belong to the
// role itself, and on Linux they come by TLS from 127.0.0.2: pg_stat_ssl and inet_client_addr report it. On that of
// [DatabaseEnv] they are a superuser's after SET SESSION AUTHORIZATION, which DISCARD ALL and RESET SESSION
// AUTHORIZATION undo; a schema aadpooltest and the functions stay there, if there was an administrator.
//
// All methods are safe for concurrent use. The settings can be changed while it serves, and hold for what logins do
// from then on.
type Server struct {
	authority  *Authority
	postgres   *Postgres
	listener   net.Listener
	listening  listening
	publicPort atomic.Int32    // by which clients reach it, if not by its own
	root       tls.Certificate // that clients trust
	tls        *tls.Config
	certPool   *x509.CertPool
	rootFile   string // the certificate, for sslrootcert

	closing context.Context // ends when Close is called
	close   context.CancelFunc
	serving sync.WaitGroup // the accept loop and every connection

	directoryMu      sync.Mutex // held while PostgreSQL is told about principals; guards directoryVersion
	directoryVersion int        // the authority's changes that PostgreSQL knows; 0: none, there is no administrator

	rolesMu sync.Mutex // held while a role is created, so that a burst of logins creates it once; guards roles
	roles   map[string]bool

	mu           sync.Mutex // guards everything below
	closed       bool
	connections  map[*connection]struct{}
	stats        ServerStats
	logins       []Login
	method       AuthMethod
	audience     string
	missing      []string // roles
	strict       bool     // no role is made at its first login
	maxPassword  int      // 0: no limit of its own
	fault        Fault
	faultChanged chan struct{} // closed when fault is replaced
}

// NewServer starts a server for tokens of the authority, in front of pg, on a free port of 127.0.0.1 unless an option
// says otherwise. Its certificate is made now. The caller ends it with [Server.Close], before it stops pg.
func NewServer(a *Authority, pg *Postgres, options ...ListenOption) (*Server, error) {
	listening := listeningAs(options)
	certificate, err := listening.certificate()
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: %w", err)
	}
	rootFile, err := writeRootFile(pg.dir, certificatePEM(listening.roots(certificate)))
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", listening.address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("aadpooltest: starting a server: %w", err), os.Remove(rootFile))
	}
	s := &Server{
		authority: a,
		postgres:  pg,
		listener:  listener,
		listening: listening,
		root:      listening.roots(certificate),
		tls: &tls.Config{
			Certificates: []tls.Certificate{certificate},
			MinVersion:   tls.VersionTLS12, // Azure's minimum
			NextProtos:   []string{pgwire.ALPN},
		},
		certPool:     rootsOf(listening.roots(certificate)),
		rootFile:     rootFile,
		roles:        map[string]bool{},
		connections:  map[*connection]struct{}{},
		method:       CleartextPassword,
		audience:     DefaultAudience,
		faultChanged: make(chan struct{}),
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.serving.Go(s.accept)
	a.addServer(s)
	return s, nil
}

// writeRootFile writes the certificate where it is removed even if this process is killed: into PostgreSQL's
// directory. There is none when somebody else started PostgreSQL; then it is a temporary file. Processes of other
// users can read it.
func writeRootFile(dir string, pem []byte) (string, error) {
	file, err := os.CreateTemp(dir, "aadpooltest-*.crt")
	if err != nil {
		return "", fmt.Errorf("aadpooltest: writing the server's certificate: %w", err)
	}
	_, err = file.Write(pem)
	if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return "", fmt.Errorf("aadpooltest: writing the server's certificate: %w", errors.Join(err, os.Remove(file.Name())))
	}
	return file.Name(), nil
}

// writeFile is os.WriteFile with a mode that the umask does not change.
func writeFile(name string, content []byte, mode os.FileMode) error {
	if err := os.WriteFile(name, content, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

// Close stops listening, cuts every connection and returns when nothing is left of them. Calling it again does nothing.
func (s *Server) Close() {
	s.authority.removeServer(s)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.close()
	_ = s.listener.Close()
	s.CloseConnections()
	s.serving.Wait()
	_ = os.Remove(s.rootFile)
}

// CloseConnections cuts every connection that is open now, without a word to the client, as a failover does. The server
// goes on accepting new ones.
func (s *Server) CloseConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.connections {
		c.cut()
	}
}

// Addr returns the address that clients reach the server at, "127.0.0.1:port" by default.
func (s *Server) Addr() string { return s.listening.public(s.listener, &s.publicPort) }

// SetPublicPort tells by which port clients reach the server from now on, where that is mapped to its own, as a
// container's is. 0 is the port that it listens on.
func (s *Server) SetPublicPort(port int) { s.publicPort.Store(int32(port)) }

// DSN returns a connection string for role, without a password: verify-full, with the server's certificate in a file
// that exists until [Server.Close]. The database is postgres.
func (s *Server) DSN(role string) string { return tlsDSN(role, s.Addr(), "postgres", s.rootFile) }

// CertPool returns the roots that a client of the server has to trust.
func (s *Server) CertPool() *x509.CertPool { return s.certPool.Clone() }

// String names the server by its address: its key is not for printing.
func (s *Server) String() string { return "aadpooltest.Server(" + s.Addr() + ")" }

// GoString is String.
func (s *Server) GoString() string { return s.String() }

// Logins returns the logins that were let in or refused, oldest first. A login is there before its client hears of the
// outcome. Those that the client or a fault broke off are not.
func (s *Server) Logins() []Login {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.logins)
}

// Stats returns what the server has counted so far.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// SetAuthMethod sets how the token is asked for. Default: [CleartextPassword].
func (s *Server) SetAuthMethod(m AuthMethod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.method = m
}

// SetAudience sets the resource that tokens must be for. Default: [DefaultAudience]. Sovereign clouds have others.
func (s *Server) SetAudience(resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.audience = resource
}

// SetMissingRoles makes the server refuse these roles until an Entra administrator has created them; by default it
// creates a role at its first login. Calling it again replaces the list.
func (s *Server) SetMissingRoles(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing = slices.Clone(names)
}

// SetMaxPassword makes the server refuse passwords of more than n bytes, as a PgBouncer before 1.26 does from 2,048
// bytes on: https://github.com/pgbouncer/pgbouncer/issues/874. Default: 0, which is no limit.
func (s *Server) SetMaxPassword(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxPassword = n
}

// SetCreateRoles sets whether the server creates a role at its first login. Default: true. With false it is as Azure's
// servers are: a role can log in once an Entra administrator has created it with pgaadauth_create_principal.
func (s *Server) SetCreateRoles(create bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strict = !create
}

// makesRole reports whether the role is created at its first login.
func (s *Server) makesRole(role string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.strict && !slices.Contains(s.missing, role)
}

func (s *Server) takesPassword(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.maxPassword == 0 || n <= s.maxPassword
}

// SetFault makes logins fail in the way of f, in place of the fault before. The zero Fault ends it.
func (s *Server) SetFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	close(s.faultChanged)
	s.faultChanged = make(chan struct{})
}

// currentFault returns the fault, and a channel that is closed when it is replaced.
func (s *Server) currentFault() (Fault, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault, s.faultChanged
}

func (s *Server) authentication() (method AuthMethod, audience string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.method, s.audience
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-time.After(acceptRetry):
			case <-s.closing.Done():
			}
			continue
		}
		c := newConnection(s, conn)
		if !s.add(c) {
			c.cut()
			return
		}
		s.serving.Go(func() {
			defer s.remove(c)
			c.serve()
		})
	}
}

// add reports false when the server has been closed meanwhile.
func (s *Server) add(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.connections[c] = struct{}{}
	s.stats.Connections++
	return true
}

func (s *Server) remove(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, c)
}

func (s *Server) count(change func(*ServerStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

func (s *Server) record(l Login) {
	l.Time = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins = append(s.logins, l)
}

// ensureRole creates the role at its first login.
func (s *Server) ensureRole(ctx context.Context, role string) error {
	s.rolesMu.Lock()
	defer s.rolesMu.Unlock()
	if s.roles[role] {
		return nil
	}
	if err := s.postgres.EnsureRole(ctx, role); err != nil {
		return err
	}
	s.roles[role] = true
	return nil
}

// CreateDatabase creates a database that the role owns, and returns the owner's connection string to it, as
// [Server.DSN] does for the database postgres. The role is created too, unless [Server.SetCreateRoles] says otherwise.
// A migration, for example, may then create tables. It fails if there is a database of that name: PostgreSQL's error
// is in the error's chain.
func (s *Server) CreateDatabase(ctx context.Context, name, owner string) (dsn string, err error) {
	if s.makesRole(owner) {
		if err := s.ensureRole(ctx, owner); err != nil {
			return "", err
		}
	}
	if err := s.postgres.exec(ctx, "CREATE DATABASE "+quoteIdentifier(name)+" OWNER "+quoteIdentifier(owner)); err != nil {
		return "", fmt.Errorf("aadpooltest: creating the database %q for the role %q: %w", name, owner, err)
	}
	return tlsDSN(owner, s.Addr(), name, s.rootFile), nil
}

// CertificatePEM returns the certificate that a client of the server has to trust, for clients that want a file:
// libpq's sslrootcert, for example. [Server.DSN] names such a file already, which processes of other users can read
// too.
func (s *Server) CertificatePEM() []byte { return certificatePEM(s.root) }
