package roles

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// An ownedObject is something in the schema that another role owns.
type ownedObject struct {
	kind, name string // the name is quoted where it has to be
	owner      string
	stays      string // why it stays its owner's; empty: it is to change hands
}

func (o ownedObject) String() string { return o.kind + " " + o.name }

func (o ownedObject) giveTo(role string) string {
	what := o.kind
	switch what {
	case "function", "procedure", "aggregate":
		what = "routine"
	}
	return fmt.Sprintf("alter %s %s owner to %s", what, o.name, statement.Identifier(role))
}

// Why an object stays its owner's. Where a role is a member of the owner, it may do all that an owner may.
const (
	staysWithMember  = "member"
	staysWithDefiner = "definer"
	staysWithReader  = "reader"
)

var whyStays = map[string]string{
	staysWithDefiner: "it runs with its owner's rights",
	staysWithReader:  "it reads, with its owner's rights, what the new owner may not, or not in the same way",
}

// notOwnedQuery returns what in the schema is another's. A sequence of a column goes with its table, and what belongs
// to an extension stays. So does what runs with its owner's rights, as it would run with others: a SECURITY DEFINER
// routine, and a view or a rule over something that the new owner may not use as the present one may, or that is
// another for each owner: by row-level security, or since it is on a foreign server, to which each role goes by its own
// user mapping. A materialized view is filled with its owner's rights in the functions that it calls, too, and what
// they read is not known.
var notOwnedQuery = `with recursive ` + grantee + `,
	object as (
		select 'pg_class'::regclass as catalog, c.oid, c.relowner as owner, format('%I.%I', n.nspname, c.relname) as name,
			case c.relkind when 'c' then 'type' when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence'
				when 'f' then 'foreign table' else 'table' end as kind, false as definer
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = $2 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c')
			and ` + notOfAnExtension("pg_class", "c.oid") + `
			and not (c.relkind = 'S' and exists (select from pg_depend d where d.classid = 'pg_class'::regclass
				and d.objid = c.oid and d.deptype in ('a', 'i') and d.refclassid = 'pg_class'::regclass))
		union all
		select 'pg_proc'::regclass, p.oid, p.proowner, p.oid::regprocedure::text,
			case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end, p.prosecdef
		from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		where n.nspname = $2 and ` + notOfAnExtension("pg_proc", "p.oid") + `
		union all
		select 'pg_type'::regclass, t.oid, t.typowner, format('%I.%I', n.nspname, t.typname), 'type', false
		from pg_type t join pg_namespace n on n.oid = t.typnamespace
		where n.nspname = $2 and t.typtype in ('d', 'e', 'r') and ` + notOfAnExtension("pg_type", "t.oid") + `
			and not exists (select from pg_depend d
				where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'i')),
	another as (select o.* from object o, grantee where o.owner is distinct from grantee.oid),
	reads as (
		select distinct o.oid as reader, o.owner, d.refobjid as relation
		from another o join pg_class c on c.oid = o.oid join pg_rewrite r on r.ev_class = o.oid
			join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
				and d.refclassid = 'pg_class'::regclass and d.refobjid <> o.oid
		where o.catalog = 'pg_class'::regclass
			and not coalesce(c.reloptions::text ~* 'security_invoker=(true|on|1|yes)', false)),
	part (whole, oid) as (
		select relation, relation from reads
		union select p.whole, i.inhrelid from part p join pg_inherits i on i.inhparent = p.oid),
	mapped (relation, role) as (
		select p.whole, m.umuser from part p join pg_foreign_table f on f.ftrelid = p.oid
			join pg_user_mappings m on m.srvid = f.ftserver),
	computed (oid) as (
		select o.oid from another o join pg_class c on c.oid = o.oid join pg_rewrite r on r.ev_class = o.oid
			join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_proc'::regclass
		where o.catalog = 'pg_class'::regclass and c.relkind = 'm' and ` + notOfAnExtension("pg_proc", "d.refobjid") + `),
	bound (oid) as (
		select oid from computed
		union select r.reader from reads r join pg_class c on c.oid = r.relation, grantee
		where c.relforcerowsecurity
			or exists (select from mapped m where m.relation = c.oid and m.role in (r.owner, grantee.oid))
			or not exists (select from another a where a.catalog = 'pg_class'::regclass and a.oid = c.oid)
			and c.relowner is distinct from grantee.oid
			and (c.relrowsecurity
				or has_table_privilege(r.owner, c.oid, 'DELETE') and not has_table_privilege(grantee.name, c.oid, 'DELETE')
				or exists (select from unnest(array['SELECT', 'INSERT', 'UPDATE']) privilege
					where has_any_column_privilege(r.owner, c.oid, privilege)
						and not has_table_privilege(grantee.name, c.oid, privilege)))
		union select r.reader from reads r join bound b on b.oid = r.relation)
	select o.kind, o.name, r.rolname,
		case when grantee.oid is not null and pg_has_role(grantee.oid, o.owner, 'USAGE') then '` + staysWithMember + `'
			when o.definer then '` + staysWithDefiner + `'
			when o.catalog = 'pg_class'::regclass and o.oid in (select oid from bound)
				then '` + staysWithReader + `' else '' end
	from another o join pg_roles r on r.oid = o.owner, grantee order by r.rolname, o.kind, o.name`

// ownership makes the role the owner of what is there, and gives to others on what it makes later what they have on
// what is made there today. Whoever owned something becomes a member of the role, and so keeps what it could do.
func (p *planner) ownership(ctx context.Context, plan *plan) error {
	objects, err := p.notOwned(ctx)
	if err != nil {
		return err
	}
	r := right{step: "objects", text: fmt.Sprintf("owner of all in schema %q", p.role.Schema)}
	for _, o := range objects {
		switch o.stays {
		case "":
			plan.taken = append(plan.taken, o)
			r.alterations = append(r.alterations, alteration{o.giveTo(p.role.Name), o.String()})
		case staysWithMember:
			r.notes = append(r.notes, fmt.Sprintf("%s stays %q's, of which %q is a member", o, o.owner, p.role.Name))
		default:
			r.isWarning = true
			r.notes = append(r.notes, fmt.Sprintf("%s stays %q's: %s; to give it away all the same: %s;",
				o, o.owner, whyStays[o.stays], o.giveTo(p.role.Name)))
		}
	}
	if n := len(plan.taken); n > 0 {
		r.text += fmt.Sprintf(" (%d are another's)", n)
	}
	members, err := p.formerOwners(ctx, plan.taken)
	if err != nil {
		return err
	}
	others, err := p.rightsOfOthers(ctx)
	plan.rights = append(append(append(plan.rights, r), members...), others)
	return err
}

func (p *planner) notOwned(ctx context.Context) ([]ownedObject, error) {
	rows, err := p.tx.Query(ctx, notOwnedQuery, p.role.Name, p.role.Schema)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (ownedObject, error) {
		var o ownedObject
		err := row.Scan(&o.kind, &o.name, &o.owner, &o.stays)
		return o, err
	})
}

// A formerOwner is a role that owns something that is to change hands, and what the catalogs say of making it a member
// of the new owner.
type formerOwner struct {
	name            string
	becomesMember   string // the statement that makes it a member
	isSuperuser     bool   // who needs no right
	isMember        bool   // it has the new owner's rights already
	isMadeOf        bool   // the new owner is a member of it, without its rights: members of each other are impossible
	isRestricted    bool   // a restrictive policy of row-level security is for the new owner, and would be for its members
	ignoresItsRoles bool   // NOINHERIT, up to PostgreSQL 15: as a member it would have none of the rights
	mayBeMember     bool   // this administrator may make it one
}

var formerOwnersQuery = `with ` + grantee + ` select r.rolname,
	format('grant %I to %I', $1::name, r.rolname) || ` + membershipOptions + `, r.rolsuper,
	grantee.oid is not null and pg_has_role(r.oid, grantee.oid, 'USAGE'),
	grantee.oid is not null and pg_has_role(grantee.oid, r.oid, 'MEMBER'),
	exists (select from pg_policy where not polpermissive and grantee.oid = any (polroles)), s.old and not r.rolinherit,
	grantee.oid is null or me.rolsuper or pg_has_role(grantee.oid, 'MEMBER WITH ADMIN OPTION') or s.old and me.rolcreaterole
	from pg_roles r, grantee, ` + serverFacts + ` where r.rolname = any ($2::name[]) order by 1`

// formerOwners are a line for each: it becomes a member. An error says why something cannot change hands.
func (p *planner) formerOwners(ctx context.Context, taken []ownedObject) (members []right, err error) {
	var names []string
	for _, o := range taken {
		names = append(names, o.owner)
	}
	rows, err := p.tx.Query(ctx, formerOwnersQuery, p.role.Name, slices.Compact(names))
	if err != nil {
		return nil, err
	}
	owners, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (formerOwner, error) {
		var o formerOwner
		err := row.Scan(&o.name, &o.becomesMember, &o.isSuperuser, &o.isMember, &o.isMadeOf,
			&o.isRestricted, &o.ignoresItsRoles, &o.mayBeMember)
		return o, err
	})
	if err != nil {
		return nil, err
	}
	if err := p.mayTake(owners, taken); err != nil {
		return nil, err
	}
	for _, o := range owners {
		if !o.isMember && !o.isSuperuser {
			members = append(members, right{step: "member", text: fmt.Sprintf(
				"%q is a member of %q, and so may do with what was its own what it could", o.name, p.role.Name),
				alterations: []alteration{{o.becomesMember, fmt.Sprintf("role %q", p.role.Name)}}})
		}
	}
	return members, nil
}

// mayTake says why something cannot change hands, if so: the first that nothing can be done about, or else all that
// nobody has named.
func (p *planner) mayTake(owners []formerOwner, taken []ownedObject) error {
	actors := p.actors()
	unnamed := map[string]bool{}
	for _, o := range owners {
		switch {
		case !slices.Contains(actors, o.name):
			return p.mayNotTake(o, taken)
		case o.isSuperuser || o.isMember:
		case o.isMadeOf || o.isRestricted || o.ignoresItsRoles || !o.mayBeMember:
			return p.mayNotKeep(o, taken)
		}
		if o.name != p.admin && !slices.Contains(p.role.TakeFrom, o.name) {
			unnamed[o.name] = true
		}
	}
	if len(unnamed) == 0 {
		return nil
	}
	return p.ownedByOthers(slices.DeleteFunc(slices.Clone(taken), func(o ownedObject) bool { return !unnamed[o.owner] }))
}

// rightsOfOthersQuery returns what others are to have on what is made in the schema, by whomever, and whether something
// of it is missing on what the role makes. Default privileges of a creator $3 that are for all schemas have in them
// what there is without any.
var rightsOfOthersQuery = `with ` + grantee + `, granted as (
	select d.defaclrole as by, d.defaclobjtype as kind, a.grantee, a.privilege_type as privilege
	from pg_default_acl d join pg_namespace n on n.oid = d.defaclnamespace, aclexplode(d.defaclacl) a where n.nspname = $2
	union all
	select d.defaclrole, d.defaclobjtype, a.grantee, a.privilege_type
	from pg_default_acl d join pg_roles r on r.oid = d.defaclrole, aclexplode(d.defaclacl) a
	where d.defaclnamespace = 0 and d.defaclobjtype in ('r', 'S', 'f', 'T') and (r.rolname = $1 or r.rolname = any ($3::name[]))
		and not exists (select from aclexplode(acldefault(case d.defaclobjtype when 'S' then 's' else d.defaclobjtype end,
			d.defaclrole)) usual where usual.grantee = a.grantee and usual.privilege_type = a.privilege_type))
	select format('alter default privileges for role %I in schema %I grant %s on %s to %s', $1::name, $2::text,
		string_agg(distinct g.privilege, ', '),
		case g.kind when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' else 'types' end,
		case g.grantee when 0 then 'public' else g.grantee::regrole::text end),
		bool_or(not exists (select from granted own where own.by = grantee.oid and own.kind = g.kind
			and own.grantee = g.grantee and own.privilege = g.privilege))
	from granted g, grantee where g.grantee is distinct from grantee.oid group by g.kind, g.grantee order by 1`

func (p *planner) rightsOfOthers(ctx context.Context) (right, error) {
	r := right{step: "future", text: fmt.Sprintf("nothing for others, who have nothing on what is made in schema %q",
		p.role.Schema)}
	var creators []string
	for _, c := range p.creators {
		creators = append(creators, c.name)
	}
	rows, err := p.tx.Query(ctx, rightsOfOthersQuery, p.role.Name, p.role.Schema, creators)
	if err != nil {
		return r, err
	}
	var sql string
	var missing bool
	_, err = pgx.ForEachRow(rows, []any{&sql, &missing}, func() error {
		r.text = fmt.Sprintf("for others, on what %q makes, what they have on what is made in schema %q",
			p.role.Name, p.role.Schema)
		if missing {
			r.alterations = append(r.alterations, alteration{sql, fmt.Sprintf("the default privileges of %q", p.role.Name)})
		}
		return nil
	})
	return r, err
}

// describeTaken is a line for each object that changes hands.
func describeTaken(taken []ownedObject) (lines []string) {
	for _, o := range taken {
		lines = append(lines, fmt.Sprintf("%s, of %q", o, o.owner))
	}
	return lines
}

// ownersOf counts what each of them owns, in words.
func ownersOf(taken []ownedObject) string {
	count := map[string]int{}
	var names []string
	for _, o := range taken {
		if count[o.owner]++; count[o.owner] == 1 {
			names = append(names, o.owner)
		}
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%d of %q", count[name], name)
	}
	return strings.Join(names, ", ")
}
