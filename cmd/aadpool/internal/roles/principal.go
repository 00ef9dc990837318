package roles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// A principal is what a role is mapped to.
type principal struct {
	canLogIn       bool
	kind, objectID string // empty: the role is not for Microsoft Entra
	administrator  bool
}

// principalQuery takes the columns of Azure's function by their place: its documentation names the first in two ways.
const principalQuery = `
	select r.rolcanlogin, coalesce(p.kind, ''), coalesce(p.object_id, ''), coalesce(p.admin::int, 0) <> 0
	from pg_roles r
	left join pgaadauth_list_principals(false) as p(role, kind, object_id, tenant_id, mfa, admin) on p.role = r.rolname
	where r.rolname = $1`

// ensureRole makes the role, if it is missing, and checks that it is the right principal's.
func (a *Run) ensureRole(ctx context.Context, tx pgx.Tx) (isNew bool, err error) {
	start := time.Now()
	p, err := a.principal(ctx, tx)
	if errors.Is(err, pgx.ErrNoRows) {
		isNew = true
		if _, err = tx.Exec(ctx, a.Role.Create()); err == nil {
			p, err = a.principal(ctx, tx)
		}
	}
	if err != nil {
		return isNew, &workError{step: "role", err: err}
	}
	if err := a.compare(p); err != nil {
		return isNew, err
	}
	text := fmt.Sprintf("role %q, for the %s with object id %s",
		a.Role.Name, kindNames[strings.ToLower(p.kind)], p.objectID)
	if p.administrator {
		text += ", a Microsoft Entra administrator"
	}
	r := right{step: "role", text: text}
	if isNew {
		r.alterations = []alteration{{a.Role.Create(), text}}
	}
	a.line(r, start)
	return isNew, nil
}

var kindNames = map[string]string{"user": "user", "group": "group", "service": "service principal or managed identity"}

func (a *Run) principal(ctx context.Context, tx pgx.Tx) (p principal, err error) {
	err = tx.QueryRow(ctx, principalQuery, a.Role.Name).Scan(&p.canLogIn, &p.kind, &p.objectID, &p.administrator)
	return p, err
}

// compare checks that a role that was there is the principal's that is meant.
func (a *Run) compare(p principal) error {
	role, quoted := a.Role, statement.Identifier(a.Role.Name)
	want := objectTypes[role.Kind]
	fail := func(d diagnosis.Diagnosis, format string, args ...any) error {
		d.Status = diagnosis.Role
		return &workError{step: "role", err: fmt.Errorf(format, args...), diagnosis: &d}
	}
	again := []string{"-- if nothing is owned by it or granted to it any more:", statement.DropRole(role.Name),
		"# and run this again"}
	switch {
	case p.objectID == "":
		return fail(diagnosis.Diagnosis{Cause: PasswordRole,
			Meaning: fmt.Sprintf("There is a role %q, and it is no Microsoft Entra principal's: it was made with a password, "+
				"or to hold rights.", role.Name),
			Fix: append([]string{"-- to map it to the principal with this object id, keeping its rights:",
				a.relabel(), "-- or,"}, again...),
		}, "the role %q exists, and is mapped to no principal", role.Name)
	case role.ObjectID != "" && !strings.EqualFold(role.ObjectID, p.objectID):
		return fail(diagnosis.Diagnosis{Cause: ObjectID,
			Meaning: fmt.Sprintf("The role %q is for the principal with object id %s, not %s: another one, or the same before "+
				"it was made anew.", role.Name, p.objectID, role.ObjectID),
			Fix: append([]string{"-- to map it to the new one, keeping its rights:", a.relabel(), "-- or,"},
				again...),
		}, "the role %q is for object id %s, not %s", role.Name, p.objectID, role.ObjectID)
	case want != "" && !strings.EqualFold(want, p.kind):
		return fail(diagnosis.Diagnosis{Cause: PrincipalKind,
			Meaning: fmt.Sprintf("The role %q is for a %s.", role.Name, kindNames[strings.ToLower(p.kind)]),
			Fix:     []string{"# leave --kind out, or give the role another name, with --object-id"},
		}, "the role %q is for a %s, not a %s", role.Name, kindNames[strings.ToLower(p.kind)], kindNames[want])
	case !p.canLogIn:
		return fail(diagnosis.Diagnosis{Cause: NoLogin,
			Meaning: fmt.Sprintf("The role %q is mapped to the principal, but may not log in.", role.Name),
			Fix:     []string{statement.AsAdministrator, "alter role " + quoted + " login;"},
		}, "the role %q may not log in", role.Name)
	}
	return nil
}

// relabel is the statement that maps a role that exists.
func (a *Run) relabel() string {
	return statement.Relabel(a.Role.Name, cmp.Or(a.Role.ObjectID, "OBJECT-ID"),
		cmp.Or(objectTypes[a.Role.Kind], "service"))
}
