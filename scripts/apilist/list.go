package main

import (
	"fmt"
	"go/types"
	"slices"
	"strings"
)

// exportedBy returns a line for each thing that a program can name in a package, sorted.
func exportedBy(pkg *types.Package) []string {
	var lines []string
	for _, name := range pkg.Scope().Names() {
		if object := pkg.Scope().Lookup(name); object.Exported() {
			lines = append(lines, describe(object)...)
		}
	}
	slices.Sort(lines)
	return lines
}

func describe(object types.Object) []string {
	switch object := object.(type) {
	case *types.Const:
		return []string{fmt.Sprintf("const %s %s = %s", object.Name(), text(object, object.Type()),
			object.Val().ExactString())}
	case *types.Func:
		return []string{"func " + object.Name() + signature(object, object.Signature())}
	case *types.TypeName:
		return describeType(object)
	default:
		return []string{"var " + object.Name() + " " + text(object, object.Type())}
	}
}

func describeType(object *types.TypeName) []string {
	name := "type " + object.Name()
	named, ok := types.Unalias(object.Type()).(*types.Named)
	if object.IsAlias() {
		lines := []string{name + " = " + text(object, types.Unalias(object.Type()))}
		if !ok || !isInternal(named.Obj().Pkg()) {
			return lines
		}
		return append(lines, describeNamed(object, name, named)...) // it is listed nowhere else
	}
	if named.TypeParams().Len() > 0 {
		name = "type " + text(object, named)
	}
	return describeNamed(object, name, named)
}

func isInternal(pkg *types.Package) bool {
	return pkg != nil && slices.Contains(strings.Split(pkg.Path(), "/"), "internal")
}

func describeNamed(object types.Object, name string, named *types.Named) []string {
	switch underlying := named.Underlying().(type) {
	case *types.Interface:
		return []string{name + " " + text(object, underlying)} // one line: another method breaks who implements it
	case *types.Struct:
		return append(methods(object, named), structFields(object, name+" struct", underlying)...)
	default:
		return append(methods(object, named), name+" "+text(object, underlying))
	}
}

func structFields(object types.Object, name string, fields *types.Struct) []string {
	lines := []string{name}
	for field := range fields.Fields() {
		if field.Exported() {
			lines = append(lines, name+", "+field.Name()+" "+text(object, field.Type()))
		}
	}
	return lines
}

// methods lists a type's methods with the receiver that they need: the value or its pointer.
func methods(object types.Object, named *types.Named) []string {
	var lines []string
	ofValue := types.NewMethodSet(named)
	for method := range types.NewMethodSet(types.NewPointer(named)).Methods() {
		if !method.Obj().Exported() {
			continue
		}
		receiver := "*" + object.Name()
		if ofValue.Lookup(method.Obj().Pkg(), method.Obj().Name()) != nil {
			receiver = object.Name()
		}
		lines = append(lines, "method ("+receiver+") "+method.Obj().Name()+signature(object,
			method.Type().(*types.Signature)))
	}
	return lines
}

// signature leaves out the parameters' names: a new one breaks no program.
func signature(object types.Object, s *types.Signature) string {
	bare := s
	if s.TypeParams().Len() == 0 { // go/types lets no second signature have them
		bare = types.NewSignatureType(nil, nil, nil, unnamed(s.Params()), unnamed(s.Results()), s.Variadic())
	}
	return strings.TrimPrefix(text(object, bare), "func")
}

func unnamed(tuple *types.Tuple) *types.Tuple {
	var vars []*types.Var
	for v := range tuple.Variables() {
		vars = append(vars, types.NewParam(v.Pos(), v.Pkg(), "", v.Type()))
	}
	return types.NewTuple(vars...)
}

// text names other packages' types as source text does, this package's without a qualifier.
func text(object types.Object, t types.Type) string {
	return types.TypeString(t, func(p *types.Package) string {
		if p == object.Pkg() {
			return ""
		}
		return p.Name()
	})
}
