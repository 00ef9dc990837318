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

	"github.com/aadpool/aadpool/internal/lazyregexp"
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
	if name := c.roleName(); name != "" {
		return name, nil
	}
	const advice = "put user= into the DSN and leave out WithUserFromToken"
	switch {
	case c.err != nil:
		return "", fmt.Errorf("the access token names no user (%w); %s", c.err, advice)
	case c.Guest() != "":
		return "", fmt.Errorf("the access token names no user of this tenant: it is for the guest %s, whose role is named "+
			"like %s<tenant>.onmicrosoft.com, as az ad signed-in-user show --query userPrincipalName prints it; %s",
			Printable(c.Guest()), Printable(c.guestPrefix()), advice)
	case c.Kind() != User && uuid.MatchString(c.Text("oid")):
		return "", fmt.Errorf("the access token names no user (it is for a %s with object id %s, whose role is named as "+
			"az ad sp show --id %[2]s --query displayName prints it); %s", c.Kind(), c.Text("oid"), advice)
	}
	return "", fmt.Errorf("the access token names no user (its claims are: %s); %s",
		Printable(strings.Join(slices.Sorted(maps.Keys(c.values)), ", ")), advice)
}

// roleName is empty where the claims do not tell it.
func (c Claims) roleName() string {
	if upn := c.Text("upn"); upn != "" {
		return upn
	}
	if c.Guest() != "" {
		return ""
	}
	for _, name := range []string{"preferred_username", "unique_name"} {
		if s := c.Text(name); s != "" {
			return s
		}
	}
	if c.Kind() == User {
		return "" // app_displayname is that of the program, such as the Azure CLI
	}
	if name := resourceName(c.Text("xms_mirid")); name != "" {
		return name
	}
	return c.Text("app_displayname")
}

// resourceName is the name of an identity by its resource id, in which it stands behind the type:
//
//	…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME
//	…/providers/Microsoft.Compute/virtualMachines/NAME        of a system-assigned one
//	…/providers/Microsoft.Web/sites/NAME/slots/SLOT           is called NAME/slots/SLOT
func resourceName(id string) string {
	const providers = "/providers/"
	id = strings.TrimRight(id, "/")
	at := strings.LastIndex(strings.ToLower(id), providers)
	if at < 0 || len(id) != len(strings.ToLower(id)) {
		return id[strings.LastIndex(id, "/")+1:]
	}
	parts := strings.SplitN(id[at+len(providers):], "/", 3)
	return parts[len(parts)-1]
}

// Guest is the address of a user whose home is another tenant, or no tenant; empty for everybody else. The token of a
// guest has that address, and not the name that the guest has in this tenant:
// https://learn.microsoft.com/entra/external-id/user-properties
func (c Claims) Guest() string {
	idp := c.Text("idp")
	tenant := c.Text("tid")
	if c.Text("upn") != "" || idp == "" || (tenant != "" && strings.Contains(idp, tenant)) {
		return ""
	}
	for _, name := range []string{"unique_name", "preferred_username", "email"} {
		if address := c.Text(name); address != "" {
			return address[strings.LastIndex(address, "#")+1:] // live.com#ada@outlook.com
		}
	}
	return ""
}

// guestPrefix is what a guest's name in this tenant begins with.
func (c Claims) guestPrefix() string { return strings.ReplaceAll(c.Guest(), "@", "_") + "#EXT#@" }

// IsFor reports whether role is the name that the token's principal has, as far as the token tells it.
func (c Claims) IsFor(role string) bool {
	if c.Guest() != "" {
		prefix := c.guestPrefix()
		return len(role) > len(prefix) && strings.EqualFold(role[:len(prefix)], prefix)
	}
	name := c.roleName()
	return name != "" && name == role
}

// Principal names the token's principal for a person: the best name there is, else its application or object id.
func (c Claims) Principal() string {
	if name := c.roleName(); name != "" {
		return Printable(name)
	}
	if guest := c.Guest(); guest != "" {
		return Printable(guest) + ", a guest"
	}
	for _, name := range []string{"appid", "azp", "oid", "sub"} {
		if s := c.Text(name); s != "" {
			return name + " " + Printable(s)
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

var uuid = lazyregexp.New(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// Audience is the resource that the token is for. RFC 7519 allows one string or a list of them.
func (c Claims) Audience() string {
	if s := c.Text("aud"); s != "" {
		return Printable(s)
	}
	var list []string
	_ = json.Unmarshal(c.values["aud"], &list)
	return Printable(strings.Join(list, " "))
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
