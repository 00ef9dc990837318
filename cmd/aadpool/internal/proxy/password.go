package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/xdg-go/scram"

	"github.com/aadpool/aadpool/internal/pgwire"
	"github.com/aadpool/aadpool/internal/token"
)

// SCRAM's mechanisms: https://www.postgresql.org/docs/current/sasl-authentication.html
const (
	scramSHA256     = "SCRAM-SHA-256"
	scramSHA256Plus = "SCRAM-SHA-256-PLUS" // with the server's certificate
)

// scramIterations is the default of PostgreSQL's scram_iterations:
// https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-SCRAM-ITERATIONS
const scramIterations = 4096

// A Password is what clients of the proxy must know. It holds no more of it than PostgreSQL keeps of one.
type Password struct {
	stored scram.StoredCredentials
}

// ReadPassword reads a password file: one line, the password itself or a verifier as PostgreSQL keeps it
// (SCRAM-SHA-256$…). The errors repeat nothing of it.
func ReadPassword(path string) (*Password, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the password file: %w", err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case password == "":
		return nil, fmt.Errorf("the password file %s is empty", path)
	case hasByteOrderMark(password):
		return nil, fmt.Errorf("the password file %s begins with a byte order mark, as programs of Windows write it: "+
			"write it in ASCII, or in UTF-8 without one", path)
	case strings.ContainsAny(password, "\r\n"):
		return nil, fmt.Errorf("the password file %s has more than one line", path)
	case strings.HasPrefix(password, scramSHA256+"$"):
		stored, err := parseVerifier(password)
		if err != nil {
			return nil, fmt.Errorf("the password file %s begins like a SCRAM verifier, but is none", path)
		}
		return &Password{stored: stored}, nil
	}
	return NewPassword(password)
}

// hasByteOrderMark reports whether a file is in UTF-16, or UTF-8, that says so.
func hasByteOrderMark(text string) bool {
	return strings.HasPrefix(text, "\ufeff") || strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff")
}

// NewPassword makes one of its text.
func NewPassword(password string) (*Password, error) {
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil { // it is no text that SASLprep takes; PostgreSQL takes its bytes then
		client, err = scram.SHA256.NewClientUnprepped("", password, "")
	}
	if err != nil {
		return nil, errors.New("the password cannot be used for SCRAM")
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: scramIterations})
	return &Password{stored: stored}, err
}

// parseVerifier reads SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>:
// https://www.postgresql.org/docs/current/catalog-pg-authid.html
func parseVerifier(text string) (stored scram.StoredCredentials, err error) {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == '$' || r == ':' })
	if len(parts) != 5 {
		return stored, errors.New("it has not five parts")
	}
	if stored.Iters, err = strconv.Atoi(parts[1]); err != nil || stored.Iters <= 0 {
		return stored, errors.New("its iterations are no number")
	}
	salt, err1 := base64.StdEncoding.DecodeString(parts[2])
	storedKey, err2 := base64.StdEncoding.DecodeString(parts[3])
	serverKey, err3 := base64.StdEncoding.DecodeString(parts[4])
	stored.Salt, stored.StoredKey, stored.ServerKey = string(salt), storedKey, serverKey
	return stored, errors.Join(err1, err2, err3)
}

// String keeps the keys out of a log.
func (*Password) String() string { return token.Redacted }

// GoString is String.
func (*Password) GoString() string { return token.Redacted }

// ask asks the client for the password. All but the last word of SASL is said here: AuthenticationOk is the server's.
// certificate is the one that a client with TLS has been shown, by which it makes sure that it speaks to the proxy
// itself.
func (p *Password) ask(client *pgwire.Conn, user string, certificate *tls.Certificate) error {
	wrong := refuse(reasonPassword, "28P01", fmt.Sprintf("password authentication failed for user %q", token.Redact(user)),
		"the password is that of the proxy's --password-file, whatever the user")
	conversation, mechanisms, err := p.converse(client, certificate)
	if err != nil {
		return err
	}
	if err := pgwire.Send(client, &pgproto3.AuthenticationSASL{AuthMechanisms: mechanisms}); err != nil {
		return &refusal{reason: reasonGone, err: err}
	}
	var initial pgproto3.SASLInitialResponse
	if err := receive(client, &initial); err != nil {
		return err
	}
	step, ok := conversation[initial.AuthMechanism]
	if !ok {
		return refuse(reasonProtocol, "08P01", "client selected an invalid SASL authentication mechanism", "")
	}
	answer, err := step.Step(string(initial.Data))
	if err != nil {
		return wrong
	}
	if err := pgwire.Send(client, &pgproto3.AuthenticationSASLContinue{Data: []byte(answer)}); err != nil {
		return &refusal{reason: reasonGone, err: err}
	}
	var response pgproto3.SASLResponse
	if err := receive(client, &response); err != nil {
		return err
	}
	answer, err = step.Step(string(response.Data))
	if err != nil || !step.Valid() {
		return wrong
	}
	if err := pgwire.Send(client, &pgproto3.AuthenticationSASLFinal{Data: []byte(answer)}); err != nil {
		return &refusal{reason: reasonGone, err: err}
	}
	return nil
}

// converse begins a conversation for each mechanism that the client can be offered.
func (p *Password) converse(client *pgwire.Conn, certificate *tls.Certificate) (
	map[string]*scram.ServerConversation, []string, error,
) {
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return p.stored, nil })
	if err != nil {
		told := pgwire.Fatal("58000", "the proxy cannot ask for a password")
		return nil, nil, &refusal{reason: reasonPassword, told: told, err: err}
	}
	plain := map[string]*scram.ServerConversation{scramSHA256: server.NewConversation()}
	if !client.Secure() {
		return plain, []string{scramSHA256}, nil
	}
	seen := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate.Leaf}} // by the client
	binding, err := scram.NewTLSServerEndpointBinding(seen)
	if err != nil { // a signature of a kind that has no binding
		return plain, []string{scramSHA256}, nil
	}
	return map[string]*scram.ServerConversation{
		// It knows of the binding, too: a client that could bind and was kept from it is being attacked.
		scramSHA256:     server.NewConversationWithChannelBinding(binding),
		scramSHA256Plus: server.NewConversationWithChannelBindingRequired(binding),
	}, []string{scramSHA256Plus, scramSHA256}, nil
}

// receive reads the client's next message of its proof.
func receive(client *pgwire.Conn, message interface{ Decode([]byte) error }) error {
	body, err := pgwire.ReadPassword(client)
	if told, ok := errors.AsType[*pgconn.PgError](err); ok {
		return &refusal{reason: reasonProtocol, told: told}
	}
	if err != nil { // a client without a password hangs up, asks a person for it, and comes again
		return &refusal{reason: reasonGone, err: err}
	}
	if err := message.Decode(bytes.Clone(body)); err != nil {
		return refuse(reasonProtocol, "08P01", "malformed SASL message", "")
	}
	return nil
}
