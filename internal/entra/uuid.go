package entra

import "github.com/aadpool/aadpool/internal/lazyregexp"

var uuid = lazyregexp.New(`^(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// IsUUID reports whether text is an id as Entra gives them to principals, applications and tenants.
func IsUUID(text string) bool { return uuid.MatchString(text) }
