package diagnosis

import (
	"fmt"
	"strings"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/token"
)

// wrongRole is for "password authentication failed", which is all that the server says of a role that it does not
// have, or that is not the token's.
func (l LoginFacts) wrongRole(_ string, d *Diagnosis) {
	name := l.name()
	role, suffixed := dsn.WithoutServer(l.Role, l.Server.Host)
	switch {
	case suffixed:
		d.Cause = RoleMissing
		d.Meaning = fmt.Sprintf("The DSN says %q, and Single Server wanted its own name behind the @; a Flexible Server "+
			"has no such roles.", l.Role)
		d.Fix = inDSN(role)
	case !l.NamesUser && !l.Claims.IsFor(l.Role):
		l.noUser(d)
	case l.Claims.Guest() != "" && !l.Claims.IsFor(l.Role) && !l.mayBeGroup():
		l.otherGuest(d)
	case l.Claims.IsFor(l.Role), name == "" && l.Claims.Guest() == "":
		l.roleMissing(d)
	case strings.EqualFold(name, l.Role):
		d.Cause = RoleCase
		d.Meaning = fmt.Sprintf("Role names are case-sensitive: the DSN says %q, and the token is for %q.", l.Role, name)
		d.Fix = inDSN(name)
	case l.mayBeGroup():
		l.notInGroup(d)
	default:
		l.otherPrincipal(d)
	}
}

func (l LoginFacts) noUser(d *Diagnosis) {
	d.Cause = NoUser
	d.Meaning = fmt.Sprintf("The DSN names no user, so pgx takes the operating system's, %q, and the server has no "+
		"such role for %s.", l.Role, l.principal())
	d.Fix = []string{"# in the DSN, the role's name:", "user=…"}
	if name := l.name(); name != "" {
		d.Fix = append(inDSN(name),
			"# or that of a group with it as a member; or in the program aadpool.WithUserFromToken()")
	} else if l.Claims.Guest() != "" {
		d.Fix = append([]string{"# as the user= of the DSN, what this prints:"}, guestName...)
	}
}

// guestName prints the name that a guest has in the tenant.
var guestName = []string{"az ad signed-in-user show --query userPrincipalName -o tsv"}

// otherGuest is for a guest who does not log in with the name that guests have.
func (l LoginFacts) otherGuest(d *Diagnosis) {
	d.Cause = Guest
	d.Meaning = fmt.Sprintf("The token is for %s of another tenant. In this one its name, and so the role's, is like "+
		"%s#EXT#@<tenant>.onmicrosoft.com, and the DSN says %q.", l.principal(),
		strings.ReplaceAll(token.Printable(l.Claims.Guest()), "@", "_"), l.Role)
	d.Fix = append([]string{"# as the user= of the DSN, what this prints (in a URL %23 for each #, and %40 for @):"},
		guestName...)
	d.Fix = append(d.Fix, "# if the server has no such role, make it by that name:", statement.AsAdministrator,
		"select * from pgaadauth_create_principal('…#EXT#@….onmicrosoft.com', false, false);")
}

// mayBeGroup guesses: a user's role has an @ in it. That of a service principal or managed identity has none either,
// and so the diagnosis speaks of both.
func (l LoginFacts) mayBeGroup() bool {
	return !strings.Contains(l.Role, "@") && l.Claims.Kind() == token.User
}

func (l LoginFacts) roleMissing(d *Diagnosis) {
	create := statement.CreatePrincipal(l.Role)
	if !l.Claims.IsFor(l.Role) && l.objectID() != "" { // the name is not in the token, so it need not be the right one
		create = statement.CreatePrincipalWithID(l.Role, l.objectID(), l.objectType())
	}
	d.Cause = RoleMissing
	d.Meaning = fmt.Sprintf("The token is good and is for %s, but the server has no role %q for it: the role is "+
		"missing, was made with a password, or was made for another object id. If access is given to a group, its name "+
		"goes into the DSN.",
		l.principal(), l.Role)
	d.Fix = []string{statement.AsAdministrator, create, "-- whose the role is, if it is there:",
		statement.ListPrincipals(l.Role)}
	if l.objectID() != "" { // by it, so that the role is no other principal's of that name
		d.Remedy = &Remedy{Role: &MissingRole{l.Role, l.objectID(), l.kind(), l.Claims.IsFor(l.Role)}}
	}
}

func (l LoginFacts) otherPrincipal(d *Diagnosis) {
	create := statement.CreatePrincipal(l.Role)
	fix := append(inDSN(l.name()), "# or, if the DSN is right, log in as the principal that the role is for; whose it is:",
		statement.AsAdministrator, statement.ListPrincipals(l.Role), "-- if it is missing:", create)
	if l.name() == "" {
		fix = fix[len(inDSN("")):]
	}
	d.Cause, d.Fix = RoleOther, fix
	d.Meaning = fmt.Sprintf("The token is for %s, and the role %q is another principal's, or is missing.",
		l.principal(), l.Role)
}

func (l LoginFacts) notInGroup(d *Diagnosis) {
	group, member := shell.Quote(l.Role), l.objectID()
	d.Cause = Group
	d.Meaning = fmt.Sprintf("The token is for %s, and the role %q looks like a group's. Only its members may log in "+
		"as it; with group sync on the server, members log in with their own name. If it is no group, it is the role of "+
		"another principal, or is missing.", l.principal(), l.Role)
	d.Fix = []string{
		"# is it a member, and if not:",
		"az ad group member check --group " + group + " --member-id " + member,
		"az ad group member add --group " + group + " --member-id " + member,
	}
	if name := l.name(); name != "" {
		d.Fix = append(append(d.Fix, "# to log in as the member instead,"), inDSN(name)...)
	} else {
		d.Fix = append(d.Fix, "# to log in as the member instead, as the user= of the DSN what this prints:")
		d.Fix = append(d.Fix, guestName...)
	}
}

// otherKind is for a role that was made for another kind of principal than the token's.
func (l LoginFacts) otherKind(_ string, d *Diagnosis) {
	if !l.Claims.IsFor(l.Role) && l.name() != "" {
		l.otherPrincipal(d)
		d.Meaning += " It was made for another kind of principal."
		return
	}
	d.Cause = RoleKind
	d.Meaning = fmt.Sprintf("The role %q was made for another kind of principal (a user or a group, say) than the "+
		"token's, which is for %s.", l.Role, l.principal())
	d.Fix = l.remake()
}

// otherObject is for a role that was made for another object id than the token's.
func (l LoginFacts) otherObject(_ string, d *Diagnosis) {
	d.Fix = l.remake()
}

// remake has a role belong to the token's principal.
func (l LoginFacts) remake() []string {
	return []string{
		statement.AsAdministrator,
		"-- have it belong to the token's principal, with all that it owns and may do:",
		statement.Relabel(l.Role, l.objectID(), l.objectType()),
		"-- or make it anew:",
		"drop role " + statement.Identifier(l.Role) + ";",
		statement.CreatePrincipalWithID(l.Role, l.objectID(), l.objectType()),
	}
}

func (l LoginFacts) principal() string {
	kind := l.Claims.Kind()
	switch {
	case l.Claims.Guest() != "":
		return fmt.Sprintf("the guest %s", token.Printable(l.Claims.Guest()))
	case l.name() == "":
		return fmt.Sprintf("a %s with object id %s", kind, l.objectID())
	}
	return fmt.Sprintf("%q (a %s)", token.Printable(l.name()), kind)
}

// kind is the principal's, as --kind of aadpool role has it.
func (l LoginFacts) kind() string {
	if l.Claims.Kind() == token.User {
		return "user"
	}
	return "service-principal"
}

// objectType is the same, as pgaadauth_create_principal_with_oid has it.
func (l LoginFacts) objectType() string {
	if l.Claims.Kind() == token.User {
		return "user"
	}
	return "service"
}
