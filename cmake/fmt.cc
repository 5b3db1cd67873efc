// What fmt's headers declare and do not define unless FMT_HEADER_ONLY is set, compiled once. A file that
// prints takes 1 s then, and not 7 (cmake/dependencies.cmake). No distribution has it as a static library.
#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
namespace detail {

// The templates of which other files use these instances: as src/format.cc of fmt 9 and 10.
template auto dragonbox::to_decimal(float x) noexcept -> dragonbox::decimal_fp<float>;
template auto dragonbox::to_decimal(double x) noexcept -> dragonbox::decimal_fp<double>;
template auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template auto decimal_point_impl(locale_ref) -> char;
template auto locale_ref::get<std::locale>() const -> std::locale;
#if FMT_VERSION >= 100000
template void vformat_to(buffer<char>&, string_view, vformat_args<char>::type, locale_ref);
#endif

}  // namespace detail
FMT_END_NAMESPACE
