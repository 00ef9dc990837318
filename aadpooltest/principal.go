package aadpooltest

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind says what sort of principal a token is for: it decides which claims the token carries and which credentials can
// ask for it.
type Kind int

const (
	// ServicePrincipal is an app registration. It logs in with a client secret, a client certificate or a federated
	// assertion; its token carries its display name in app_displayname.
	ServicePrincipal Kind = iota
	// ManagedIdentity is an identity that Azure gives to a machine or service. It asks IMDS or the App Service endpoint,
	// or uses a federated assertion (AKS workload identity). Its token carries no display name: xms_mirid, its Azure
	// resource ID, ends in its name.
	ManagedIdentity
	// User is a person, who signs in at a browser or with a device code, or is signed in to the Azure CLI. Name is the
	// user principal name (UPN), which the token carries in upn and unique_name.
	User
)

// String returns "service principal", "managed identity" or "user".
func (k Kind) String() string {
	switch k {
	case ServicePrincipal:
		return "service principal"
	case ManagedIdentity:
		return "managed identity"
	case User:
		return "user"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Principal is an identity that an [Authority] issues tokens for. Give it to [Authority.Register], which fills in what
// is empty.
type Principal struct {
	Kind Kind
	// Name is the display name, the UPN of a [User], or a managed identity's name: what the database role is called.
	Name string
	// ClientID is the application's ID. Default: a random UUID. For a [User] it is not used: the token's appid is that
	// of the application in which the user has signed in.
	ClientID string
	// ObjectID is the principal's ID in the directory. Default: a random UUID.
	ObjectID string
	// Secret is the client secret. Default: a random one for a [ServicePrincipal], none for the other kinds. It is left
	// out when a Principal is printed or marshalled.
	Secret string `json:"-"`
	// Certificate, if set, is accepted from a [ServicePrincipal] in client assertions signed by its key.
	Certificate *x509.Certificate `json:"-"`
	// Groups are the display names of the Entra groups that the principal is a member of. A [Server] lets it log in as
	// such a group's role with its own token.
	Groups []string
	// Administrator makes the principal a Microsoft Entra administrator of every [Server] of the authority: see
	// [Server] for what that allows.
	Administrator bool
}

// String names the principal, without its secret.
func (p Principal) String() string {
	return fmt.Sprintf("%s %q (client ID %s, object ID %s)", p.Kind, p.Name, p.ClientID, p.ObjectID)
}

// GoString is String, so that %#v does not show the secret either.
func (p Principal) GoString() string { return p.String() }

// Register makes the authority issue tokens for p and returns p with what was empty filled in. Registering a name again
// replaces that principal, and ends its revocation. Names are case-sensitive.
func (a *Authority) Register(p Principal) Principal {
	p.Groups = slices.Clone(p.Groups)
	if p.ClientID == "" {
		p.ClientID = newUUID()
	}
	if p.ObjectID == "" {
		p.ObjectID = newUUID()
	}
	if p.Secret == "" && p.Kind == ServicePrincipal {
		p.Secret = rand.Text()
	}
	defer a.notifyServers() // once the lock is released
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changes++
	delete(a.revoked, p.Name)
	if i := slices.IndexFunc(a.principals, func(q Principal) bool { return q.Name == p.Name }); i >= 0 {
		a.principals[i] = p
	} else {
		a.principals = append(a.principals, p)
	}
	return p
}

// notifyServers tells the servers of the authority that a principal has been registered.
func (a *Authority) notifyServers() {
	a.mu.Lock()
	servers := slices.Collect(maps.Keys(a.servers))
	a.mu.Unlock()
	for _, s := range servers {
		s.directoryChanged()
	}
}

// Revoke makes every later token request of the principal fail as when an administrator has turned it off: with
// AADSTS7000112 (application disabled), or AADSTS50057 (account disabled) for a [User]. Tokens that it has stay valid
// until they expire. [Authority.Register] ends it.
func (a *Authority) Revoke(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revoked[name] = true
	a.signIns.forget(name)
}

// find returns the first principal registered for which match is true.
func (a *Authority) find(match func(Principal) bool) (Principal, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.principals, match)
	if i < 0 {
		return Principal{}, false
	}
	return a.principals[i], true
}

func (a *Authority) principalByName(name string) (Principal, bool) {
	return a.find(func(p Principal) bool { return p.Name == name })
}

func (a *Authority) principalByClientID(id string) (Principal, bool) {
	return a.find(func(p Principal) bool { return strings.EqualFold(p.ClientID, id) })
}

// principalOf returns the principal that a verified token is for.
func (a *Authority) principalOf(c Claims) (Principal, bool) {
	return a.find(func(p Principal) bool { return p.ObjectID == c.ObjectID })
}

func (a *Authority) isRevoked(p Principal) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.revoked[p.Name]
}

// newUUID returns a random UUID: https://www.rfc-editor.org/rfc/rfc9562#section-5.4.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, by its documentation
	return formatUUID(b, 4)
}

// formatUUID returns the bytes as a UUID of the version.
func formatUUID(b [16]byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
