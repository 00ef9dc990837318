// Package token knows what an access token says, when it is to be renewed, and how it is kept out of texts.
package token

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Claims is what an access token says: whom it is for and how long it lives. Nothing verifies its signature, which is
// the server's part; nothing is granted by it. The zero value has no claims. Microsoft's reference of the names is
// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
type Claims struct {
	values map[string]json.RawMessage
	err    error
}

// ReadClaims reads the claims of a JWT (RFC 7519). Where secret is none, Err tells why, and no claim is there.
func ReadClaims(secret string) Claims {
	parts := strings.Split(secret, ".")
	if len(parts) != 3 {
		return Claims{err: errors.New("the token is not a JWT")}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return Claims{err: errors.New("the token is not a JWT: its claims are not base64url")}
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(payload, &values); err != nil || values == nil {
		return Claims{err: errors.New("the token is not a JWT: its claims are not a JSON object")}
	}
	return Claims{values: values}
}

// Err tells why the token has no claims to read. Its text carries nothing of the token.
func (c Claims) Err() error { return c.err }

// UserName is the database role that the token's principal has by Azure's rules: a user's is the UPN, a managed
// identity's is its name, a service principal's is its display name. The error says what to do when there is none.
func (c Claims) UserName() (string, error) {
	for _, name := range []string{"upn", "preferred_username", "unique_name"} {
		if s := c.Text(name); s != "" {
			return s, nil
		}
	}
	// The identity's resource id: …/userAssignedIdentities/{name}, or …/virtualMachines/{name} for a system-assigned
	// one.
	id := strings.TrimRight(c.Text("xms_mirid"), "/")
	if name := id[strings.LastIndex(id, "/")+1:]; name != "" {
		return name, nil
	}
	if s := c.Text("app_displayname"); s != "" {
		return s, nil
	}
	err := c.err
	if err == nil {
		err = fmt.Errorf("its claims are: %s", strings.Join(slices.Sorted(maps.Keys(c.values)), ", "))
	}
	const advice = "put user= into the DSN and leave out WithUserFromToken"
	return "", fmt.Errorf("the access token names no user (%w); %s", err, advice)
}

// Principal names the token's principal for a person: the best name there is, else its application or object id.
func (c Claims) Principal() string {
	if name, err := c.UserName(); err == nil {
		return name
	}
	for _, name := range []string{"appid", "azp", "oid", "sub"} {
		if s := c.Text(name); s != "" {
			return name + " " + s
		}
	}
	return "unknown"
}

// A Kind is a kind of principal that a token can be for.
type Kind string

// The kinds, as one says them after "a".
const (
	User             Kind = "user"
	ManagedIdentity  Kind = "managed identity"
	ServicePrincipal Kind = "service principal"
	UnknownKind      Kind = "principal of unknown kind"
)

// Kind is the kind of the token's principal.
func (c Claims) Kind() Kind {
	switch {
	case c.Text("idtyp") == "user" || c.Text("scp") != "":
		return User
	case c.Text("xms_mirid") != "":
		return ManagedIdentity
	case c.Text("idtyp") == "app" || c.Text("app_displayname") != "":
		return ServicePrincipal
	}
	return UnknownKind
}

// Audience is the resource that the token is for. RFC 7519 allows one string or a list of them.
func (c Claims) Audience() string {
	if s := c.Text("aud"); s != "" {
		return s
	}
	var list []string
	_ = json.Unmarshal(c.values["aud"], &list)
	return strings.Join(list, " ")
}

// Issued is when the token was issued; zero where the claims do not say.
func (c Claims) Issued() time.Time {
	if issued := c.seconds("iat"); issued > 0 {
		return time.Unix(issued, 0)
	}
	return time.Time{}
}

// Life is the time from the token's issue to its end; 0 where the claims do not say.
func (c Claims) Life() time.Duration {
	issued, expires := c.seconds("iat"), c.seconds("exp")
	if issued <= 0 || expires <= issued {
		return 0
	}
	return time.Unix(expires, 0).Sub(time.Unix(issued, 0))
}

// Text is a claim that is a string. One of another type counts as absent.
func (c Claims) Text(name string) string {
	var s string
	_ = json.Unmarshal(c.values[name], &s)
	return s
}

// seconds is a claim that is a time in whole or fractional seconds since 1970 (RFC 7519's NumericDate).
func (c Claims) seconds(name string) int64 {
	var n float64
	if json.Unmarshal(c.values[name], &n) != nil || n < 0 || n > 1<<40 {
		return 0
	}
	return int64(n)
}
