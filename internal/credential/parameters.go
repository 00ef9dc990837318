package credential

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/aadpool/aadpool/internal/entra"
)

// Parameters are what a DSN says that is aadpool's own. The zero value is a DSN that says nothing of the kind.
type Parameters struct {
	Credential, ClientID, TenantID, Scope string
	UserFromToken                         bool
}

var tenantID = regexp.MustCompile(`^[A-Za-z0-9.-]+$`) // a UUID, or its domain

// CheckClientID says what is wrong with a client id; "" if nothing is.
func CheckClientID(id string) string {
	if entra.IsUUID(id) {
		return ""
	}
	return "must be a UUID, the client id (application id) of the identity, which is not its object id"
}

// CheckTenantID says what is wrong with a tenant's id; "" if nothing is.
func CheckTenantID(id string) string {
	if tenantID.MatchString(id) {
		return ""
	}
	return "must be a tenant's UUID or domain"
}

// ReadParameters reads them from what a DSN gives by their names. No error repeats a value.
func ReadParameters(given map[string]string) (p Parameters, err error) {
	p = Parameters{Credential: given["credential"], ClientID: given["client_id"], TenantID: given["tenant_id"],
		Scope: given["scope"]}
	var faults []error
	check := func(name, separator string, fault func(string) string) {
		if value, ok := given[name]; ok {
			if text := fault(value); text != "" {
				faults = append(faults, errors.New(name+"="+separator+text))
			}
		}
	}
	check("credential", ": ", CheckName)
	check("client_id", " ", CheckClientID)
	check("tenant_id", " ", CheckTenantID)
	check("user_from_token", " ", func(value string) string {
		if p.UserFromToken, err = strconv.ParseBool(value); err != nil {
			return "must be true or false"
		}
		return ""
	})
	return p, inOneLine(faults)
}

// inOneLine is errors.Join in one line.
func inOneLine(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	return fmt.Errorf("%w; %w", errs[0], inOneLine(errs[1:]))
}
