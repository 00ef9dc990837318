package aadpool

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

// claims is what an access token says: whom it is for and how long it lives. It is read without verifying the signature,
// which only the server can do; nothing is granted by it. Microsoft's reference of the names is
// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
type claims map[string]json.RawMessage

// parseClaims reads the claims of a JWT (RFC 7519). Its errors carry nothing of the token.
func parseClaims(token string) (claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("the token is not a JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errors.New("the token is not a JWT: its claims are not base64url")
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil || c == nil {
		return nil, errors.New("the token is not a JWT: its claims are not a JSON object")
	}
	return c, nil
}

// userName is the database role that the token's principal has by Azure's rules: a user's is the UPN, a managed
// identity's is its name, a service principal's is its display name.
func (c claims) userName() (string, error) {
	for _, name := range []string{"upn", "preferred_username", "unique_name"} {
		if s := c.text(name); s != "" {
			return s, nil
		}
	}
	// The identity's resource id: …/userAssignedIdentities/{name}, or …/virtualMachines/{name} for a system-assigned one.
	id := strings.TrimRight(c.text("xms_mirid"), "/")
	if name := id[strings.LastIndex(id, "/")+1:]; name != "" {
		return name, nil
	}
	if s := c.text("app_displayname"); s != "" {
		return s, nil
	}
	return "", fmt.Errorf("the access token names no user (its claims are: %s); put user= into the DSN and leave out WithUserFromToken",
		strings.Join(slices.Sorted(maps.Keys(c)), ", "))
}

// principal names the token's principal for a person: the best name there is, else its application or object id.
func (c claims) principal() string {
	if name, err := c.userName(); err == nil {
		return name
	}
	for _, name := range []string{"appid", "azp", "oid", "sub"} {
		if s := c.text(name); s != "" {
			return name + " " + s
		}
	}
	return "unknown"
}

// kind says what sort of principal the token is for.
func (c claims) kind() string {
	switch {
	case c.text("idtyp") == "user" || c.text("scp") != "":
		return "a user"
	case c.text("xms_mirid") != "":
		return "a managed identity"
	case c.text("idtyp") == "app" || c.text("app_displayname") != "":
		return "a service principal"
	}
	return "an unknown kind"
}

// audience is the resource that the token is for. RFC 7519 allows one string or a list of them.
func (c claims) audience() string {
	if s := c.text("aud"); s != "" {
		return s
	}
	var list []string
	_ = json.Unmarshal(c["aud"], &list)
	return strings.Join(list, " ")
}

// life is the time from the token's issue to its end, or 0 where the claims do not say.
func (c claims) life() time.Duration {
	issued, expires := c.seconds("iat"), c.seconds("exp")
	if issued <= 0 || expires <= issued {
		return 0
	}
	return time.Unix(expires, 0).Sub(time.Unix(issued, 0))
}

// text is a claim that is a string; one of another type counts as absent.
func (c claims) text(name string) string {
	var s string
	_ = json.Unmarshal(c[name], &s)
	return s
}

// seconds is a claim that is a time in whole or fractional seconds since 1970 (RFC 7519's NumericDate).
func (c claims) seconds(name string) int64 {
	var n float64
	if json.Unmarshal(c[name], &n) != nil || n < 0 || n > 1<<40 {
		return 0
	}
	return int64(n)
}
