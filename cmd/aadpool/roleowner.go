package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// creatorsQuery finds who makes tables in the schema: this administrator, its owner (the database's, where that is
// pg_database_owner), the owners of what is in it, and who may create there. A superuser's tables are nobody's to
// grant.
const creatorsQuery = `
	with namespace as (select oid, nspowner, nspacl from pg_namespace where nspname = $1),
	creator as (
		select oid from pg_roles where rolname = current_user
		union select case when r.rolname = 'pg_database_owner' then d.datdba else r.oid end
			from namespace n join pg_roles r on r.oid = n.nspowner, pg_database d where d.datname = current_database()
		union select c.relowner from pg_class c join namespace n on n.oid = c.relnamespace where ` + notOfAnExtension + `
		union select acl.grantee from namespace n, aclexplode(n.nspacl) acl where acl.privilege_type = 'CREATE')
	select r.rolname from creator join pg_roles r on r.oid = creator.oid
	where r.rolname <> $2 and r.rolname !~ '^pg_' and (r.rolname = current_user or not r.rolsuper) order by 1`

// actForCreators makes the administrator a member of those who make tables, and of the role itself for --grant owner.
func (g *granting) actForCreators(ctx context.Context) error {
	rows, err := g.tx.Query(ctx, creatorsQuery, g.role.Schema, g.role.Name)
	if err == nil {
		g.creators, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return fmt.Errorf("asking who makes tables in the schema: %w", err)
	}
	roles := g.creators
	if g.role.Grant == grantOwner {
		roles = append(slices.Clone(roles), g.role.Name)
	}
	for _, role := range roles {
		if err := g.actFor(ctx, role); err != nil {
			return err
		}
	}
	return nil
}

// needsMembership tells whether the administrator has to become a member to act for a role, and with what options. Up
// to PostgreSQL 15 a member may also become it; from 16 on a membership that is there may lack either, and keeps what
// is not named.
const needsMembership = `select
	case when old then not pg_has_role($1, 'MEMBER') else not (pg_has_role($1, 'USAGE') and pg_has_role($1, 'SET')) end,
	case when old then '' else ' with inherit true, set true' end
	from (select current_setting('server_version_num')::int < 160000) as server (old)`

// actFor makes the administrator a member of a role until the transaction ends, where that is needed and may be.
func (g *granting) actFor(ctx context.Context, role string) error {
	var needed bool
	var options string
	if err := g.tx.QueryRow(ctx, needsMembership, role).Scan(&needed, &options); err != nil || !needed {
		return err
	}
	before, err := g.memberships(ctx, role)
	if err != nil {
		return err
	}
	// A savepoint, for a refusal.
	err = pgx.BeginFunc(ctx, g.tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "grant "+identifier(role)+" to current_user"+options)
		return err
	})
	if err != nil {
		g.refused = append(g.refused, role)
		return ctx.Err()
	}
	after, err := g.memberships(ctx, role)
	for grantor, statement := range after {
		switch was, ok := before[grantor]; {
		case !ok:
			g.undo = append(g.undo, fmt.Sprintf("revoke %s from current_user granted by %s", identifier(role), identifier(grantor)))
		case was != statement:
			g.undo = append(g.undo, was)
		}
	}
	return err
}

// membershipsQuery returns the grantors of the administrator's memberships of a role, each with the statement that
// gives its membership the options that it has.
const membershipsQuery = `select g.rolname, format('grant %I to current_user with inherit %s, set %s granted by %I',
		$1::text, to_jsonb(m) ->> 'inherit_option', to_jsonb(m) ->> 'set_option', g.rolname)
	from pg_auth_members m join pg_roles g on g.oid = m.grantor
	where m.roleid = (select oid from pg_roles where rolname = $1)
		and m.member = (select oid from pg_roles where rolname = current_user)`

func (g *granting) memberships(ctx context.Context, role string) (byGrantor map[string]string, err error) {
	rows, err := g.tx.Query(ctx, membershipsQuery, role)
	if err != nil {
		return nil, err
	}
	byGrantor = map[string]string{}
	var grantor, statement string
	_, err = pgx.ForEachRow(rows, []any{&grantor, &statement}, func() error {
		byGrantor[grantor] = statement
		return nil
	})
	return byGrantor, err
}

// actForNobody makes the administrator's memberships what they were.
func (g *granting) actForNobody(ctx context.Context) error {
	for _, statement := range g.undo {
		if _, err := g.tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("ending a membership (%s): %w", statement, err)
		}
	}
	return nil
}

// notOwnedQuery returns the statements that make the role the owner of all in the schema. A sequence of a column goes
// with its table, and what belongs to an extension stays.
const notOwnedQuery = `
	select format('alter %s %I.%I owner to %I',
		case c.relkind when 'c' then 'type' else 'table' end, n.nspname, c.relname, $2::text)
	from pg_class c join pg_namespace n on n.oid = c.relnamespace
	where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c') and c.relowner <> to_regrole($3)
		and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
			and (d.deptype = 'e' or c.relkind = 'S' and d.deptype in ('a', 'i') and d.refclassid = 'pg_class'::regclass))
	union all
	select format('alter routine %s owner to %I', p.oid::regprocedure, $2::text)
	from pg_proc p join pg_namespace n on n.oid = p.pronamespace
	where n.nspname = $1 and p.proowner <> to_regrole($3)
		and not exists (select from pg_depend d
			where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
	union all
	select format('alter type %I.%I owner to %I', n.nspname, t.typname, $2::text)
	from pg_type t join pg_namespace n on n.oid = t.typnamespace
	where n.nspname = $1 and t.typtype in ('d', 'e', 'r') and t.typowner <> to_regrole($3)
		and not exists (select from pg_depend d
			where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype in ('e', 'i'))`

// ownership makes the role the owner of what is there, and gives to others on what it makes later what they have on
// what is made there today.
func (g *granting) ownership(ctx context.Context) ([]right, error) {
	role := g.role.Name
	rows, err := g.tx.Query(ctx, notOwnedQuery, g.role.Schema, role, identifier(role))
	if err != nil {
		return nil, err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	objects := right{step: "objects", text: fmt.Sprintf("owner of all in schema %q", g.role.Schema),
		state: ownersState, sql: statements}
	if len(statements) > 0 {
		objects.text += fmt.Sprintf(" (%d are another's)", len(statements))
	}
	others, err := g.rightsOfOthers(ctx)
	return []right{objects, others}, err
}

// ownersState also changes with the owner of a type or a routine.
const ownersState = `select md5(concat(
	(select string_agg(c.oid || ' ' || c.relowner, ',' order by c.oid) from pg_class c where c.relnamespace = n.oid),
	(select string_agg(p.oid || ' ' || p.proowner, ',' order by p.oid) from pg_proc p where p.pronamespace = n.oid),
	(select string_agg(t.oid || ' ' || t.typowner, ',' order by t.oid) from pg_type t where t.typnamespace = n.oid)))
	from pg_namespace n where n.nspname = $1 and $2::text <> ''`

// rightsOfOthersQuery returns what others are to have on what is made in the schema, by whomever.
const rightsOfOthersQuery = `
	select format('alter default privileges for role %I in schema %I grant %s on %s to %s', $2::text, $1::text,
		string_agg(distinct acl.privilege_type, ', '),
		case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
			else 'types' end,
		case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end)
	from pg_default_acl d join pg_namespace n on n.oid = d.defaclnamespace, aclexplode(d.defaclacl) acl
	where n.nspname = $1 and acl.grantee <> to_regrole($3) group by d.defaclobjtype, acl.grantee order by 1`

func (g *granting) rightsOfOthers(ctx context.Context) (right, error) {
	r := right{step: "future", state: futureState, text: fmt.Sprintf(
		"for others, on what %q makes, what they have on what is made in schema %q", g.role.Name, g.role.Schema)}
	rows, err := g.tx.Query(ctx, rightsOfOthersQuery, g.role.Schema, g.role.Name, identifier(g.role.Name))
	if err != nil {
		return r, err
	}
	r.sql, err = pgx.CollectRows(rows, pgx.RowTo[string])
	if len(r.sql) == 0 {
		r.text = fmt.Sprintf("nothing for others, who have nothing on what is made in schema %q", g.role.Schema)
	}
	return r, err
}
