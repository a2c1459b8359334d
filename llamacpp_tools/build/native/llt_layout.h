// What the compiler makes of the headers, one JSON object a line: the frame of a probe that build/layout.py fills in.
// The words for a type are those that ffi/layout.py makes of cffi's idea of it, so that the two can be compared.
#pragma once

#include "llt_shim.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <type_traits>

template <typename T, typename = void> struct llt_is_complete : std::false_type {};
template <typename T> struct llt_is_complete<T, std::void_t<decltype(sizeof(T))>> : std::true_type {};

// Specialised for each struct, union and enum that the declarations name; what is left is a type without a name,
// or one that only the headers have.
template <typename T> struct llt_named {
    static std::string words() {
        const std::string kind = std::is_enum_v<T> ? "enum" : std::is_union_v<T> ? "union" : "struct";
        if constexpr (llt_is_complete<T>::value) {
            return kind + " of " + std::to_string(sizeof(T)) + " bytes";
        }
        return kind + " that the declarations do not have";
    }
};

template <typename F> struct llt_signature;

// Qualifiers are left out: cffi does not keep them, and no layout depends on them.
template <typename Q> std::string llt_words() {
    using T = std::remove_cv_t<Q>;
    if constexpr (std::is_array_v<T>) {
        return llt_words<std::remove_extent_t<T>>() + " [" + std::to_string(std::extent_v<T>) + "]";
    } else if constexpr (std::is_pointer_v<T>) {
        using P = std::remove_pointer_t<T>;
        if constexpr (std::is_function_v<P>) {
            return llt_signature<P>::words();
        } else {
            return llt_words<P>() + " *";
        }
    } else if constexpr (std::is_void_v<T>) {
        return "void";
    } else if constexpr (std::is_same_v<T, bool>) {
        return "bool";
    } else if constexpr (std::is_same_v<T, char>) {
        return "char";
    } else if constexpr (std::is_arithmetic_v<T>) {
        const char * kind = std::is_floating_point_v<T> ? "float" : std::is_signed_v<T> ? "int" : "uint";
        return kind + std::to_string(8 * sizeof(T));
    } else {
        return llt_named<T>::words();
    }
}

template <typename... A> std::string llt_arguments() {
    std::string all;
    ((all += (all.empty() ? "" : ", ") + llt_words<A>()), ...);
    return all;
}

template <typename R, typename... A> struct llt_signature<R(A...)> {
    static std::string words() { return llt_words<R>() + " (*)(" + llt_arguments<A...>() + ")"; }
};

template <typename R, typename... A> struct llt_signature<R(A..., ...)> {
    static std::string words() { return llt_words<R>() + " (*)(" + llt_arguments<A...>() + ", ...)"; }
};

// How many members a struct has, listed or not: as many as it takes `{}`, each of which stands for a whole member
// whatever its type. This finds a member that hides in padding, where no offset and no size changes.
template <typename T, int N, typename = void> struct llt_takes : std::false_type {};

template <typename T, int N> constexpr int llt_members() {
    if constexpr (N == 0 || llt_takes<T, N>::value) {
        return N;
    } else {
        return llt_members<T, N - 1>();
    }
}

#define LLT_TAKES(n, ...) \
    template <typename T> struct llt_takes<T, n, std::void_t<decltype(T{ __VA_ARGS__ })>> : std::true_type {};

#define LLT_NAMED(T) \
    template <> struct llt_named<T> { static std::string words() { return #T; } };

#define LLT_RECORD(T, members) \
    std::printf("{\"record\": \"%s\", \"size\": %zu, \"align\": %zu, \"members\": %d}\n", #T, sizeof(T), alignof(T), \
            members)

#define LLT_FIELD(T, F) \
    std::printf("{\"of\": \"%s\", \"field\": \"%s\", \"type\": \"%s\", \"offset\": %zu, \"size\": %zu}\n", #T, #F, \
            llt_words<decltype(((T *) nullptr)->F)>().c_str(), offsetof(T, F), sizeof(((T *) nullptr)->F))

#define LLT_ENUM(T) \
    std::printf("{\"enum\": \"%s\", \"type\": \"%s\"}\n", #T, llt_words<std::underlying_type_t<T>>().c_str())

#define LLT_CONSTANT(C) std::printf("{\"constant\": \"%s\", \"value\": %lld}\n", #C, (long long) (C))

#define LLT_FUNCTION(F) \
    std::printf("{\"function\": \"%s\", \"type\": \"%s\"}\n", #F, llt_words<decltype(&F)>().c_str())
