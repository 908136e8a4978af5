//! Hand-written kernels in the forms that lowering produces.

/// Flat `parallel vector` loops.
pub(crate) const ELEMENTWISE: &[&str] = &[
    "kernel @copy (in %x: f32[n], out %y: f32[n]) { for i in n parallel vector { %0 = load %x[i] store %y[i], %0 } }",
    "kernel @fill (out %y: f32[7*n]) { for i in 7*n parallel vector { store %y[i], -1.5 } }",
    "kernel @relu_axpb (in %a: f32[64*n], in %x: f32[64*n], in %b: f32[64*n], out %y: f32[64*n]) {
       for i in 64*n parallel vector {
         %0 = load %a[i] %1 = load %x[i] %2 = load %b[i] %3 = mul %0, %1 %4 = add %3, %2 %5 = max %4, 0.0 store %y[i], %5
       } }",
    "kernel @arith (in %a: f32[n], in %b: f32[n], out %y: f32[n], out %z: f32[n]) {
       for i in n parallel vector {
         %0 = load %a[i] %1 = load %b[i] %2 = sub %0, %1 %3 = div %0, %1 %4 = neg %2 %5 = abs %4 %6 = sqrt %5 %7 = sign %2
         %8 = mul %6, %7 %9 = max %8, %0 %10 = min %9, %1 %11 = min %10, 1.0 store %y[i], %11 store %z[i], %3
       } }",
    "kernel @compare (in %a: f32[n], in %b: f32[n], out %y: f32[n], out %z: f32[n]) {
       for i in n parallel vector {
         %0 = load %a[i] %1 = load %b[i] %2 = lt %0, %1 %3 = le %0, 0.0 %4 = eq %0, 0.0 %5 = select %2, %0, %1
         %6 = select %3, %5, -2.0 %7 = add %2, %3 %8 = add %7, %4 %9 = select %8, %6, 3.0 %10 = select %1, %9, 9.0
         store %y[i], %9 store %z[i], %10
       } }",
    "kernel @adam (in %g: f32[33], in %lr: f32[1], inout %w: f32[33], inout %m: f32[33], inout %v: f32[33]) {
       for i in 33 parallel vector {
         %0 = load %g[i] %1 = load %m[i] %2 = load %v[i] %3 = load %w[i] %4 = load %lr[0]
         %5 = mul %1, 0.9 %6 = mul %0, 0.1 %7 = add %5, %6 %8 = mul %0, %0 %9 = mul %8, 0.001 %10 = abs %2
         %11 = mul %10, 0.999 %12 = add %11, %9 %13 = sqrt %12 %14 = add %13, 1e-7 %15 = div %7, %14 %16 = mul %15, %4
         %17 = sub %3, %16 store %w[i], %17 store %m[i], %7 store %v[i], %12
       } }",
    "kernel @offsets (in %x: f32[3*n], out %y: f32[2*n]) {
       for i in n parallel vector { %0 = load %x[2*i + 1] %1 = load %x[3*i] %2 = add %0, %1 store %y[2*i + 1], %2 store %y[2*i], %0 } }",
    "kernel @random (in %c: u32[2], in %x: f32[n], out %y: f32[n], out %z: f32[n]) {
       for i in n parallel vector {
         %0 = load %c[0] %1 = load %c[1] %2 = random 5, %0, %1 [i + 3] %3 = lt %2, 0.3 %4 = load %x[i] %5 = mul %3, %4
         %6 = random 6, %1, %0 [n*i] store %y[i], %5 store %z[i], %6
       } }",
    "kernel @from_u32 (in %c: u32[n], out %y: f32[n]) {
       for i in n parallel vector { %0 = load %c[i] %1 = from_u32 %0 store %y[i], %1 } }",
];

/// A parallel loop around vector loops.
pub(crate) const NESTS: &[&str] = &[
    "kernel @bias_relu (in %x: f32[10*n], in %b: f32[10], out %y: f32[10*n]) {
       for i in n parallel { for j in 10 vector {
         %0 = load %x[10*i + j] %1 = load %b[j] %2 = add %0, %1 %3 = max %2, 0.0 store %y[10*i + j], %3
       } } }",
    "kernel @row_scale symbols(n, t) (in %x: f32[n*t], in %s: f32[n], in %k: f32[1], out %y: f32[n*t]) {
       for i in n parallel { for j in t vector {
         %0 = load %x[t*i + j] %1 = load %s[i] %2 = load %k[0] %3 = mul %1, %2 %4 = mul %0, %3 store %y[t*i + j], %4
       } } }",
    "kernel @transpose (in %x: f32[70*n], out %y: f32[70*n]) {
       for i in n parallel { for j in 70 vector { %0 = load %x[i + n*j] store %y[70*i + j], %0 } } }",
    "kernel @scatter (in %x: f32[13*n], out %y: f32[13*n]) {
       for i in n parallel { for j in 13 vector { %0 = load %x[13*i + j] store %y[i + n*j], %0 } } }",
    "kernel @three_deep symbols(n, t, d2 = (t - 3) / 2) (in %x: f32[12*n*t], in %w: f32[12], out %y: f32[12*n*t]) {
       for i in n parallel { for j in t { for k in 12 vector {
         %0 = load %x[12*t*i + 12*j + k] %1 = load %w[k] %2 = mul %0, %1 store %y[12*t*i + 12*j + k], %2
       } } } }",
    "kernel @strided_window symbols(n, t, d2 = (t - 3) / 2) (in %x: f32[n*t], out %y: f32[n*d2]) {
       for i in n parallel { for j in d2 vector {
         %0 = load %x[t*i + 2*j] %1 = load %x[t*i + 2*j + 1] %2 = add %0, %1 store %y[d2*i + j], %2
       } } }",
    "kernel @dropout_rows (in %c: u32[2], in %x: f32[21*n], out %y: f32[21*n]) {
       for i in n parallel { for j in 21 vector {
         %0 = load %c[0] %1 = load %c[1] %2 = random 9, %0, %1 [21*i + j] %3 = le 0.5, %2 %4 = load %x[21*i + j]
         %5 = mul %3, %4 %6 = mul %5, 2.0 store %y[21*i + j], %6
       } } }",
    "kernel @two_loops (in %x: f32[9*n], out %y: f32[9*n], out %z: f32[5*n]) {
       for i in n parallel {
         for j in 9 vector { %0 = load %x[9*i + j] %1 = neg %0 store %y[9*i + j], %1 }
         for j in 5 vector { %2 = load %x[9*i + j + 2] store %z[5*i + j], %2 }
       } }",
];

/// Parallel rows, each reduced by a vector reduction.
pub(crate) const ROW_REDUCTIONS: &[&str] = &[
    "kernel @row_sum (in %x: f32[100*n], out %y: f32[n]) {
       for i in n parallel { %1 = reduce add j in 100 vector { %0 = load %x[100*i + j] yield %0 } store %y[i], %1 } }",
    "kernel @row_sum_t symbols(n, t) (in %x: f32[n*t], out %y: f32[n]) {
       for i in n parallel { %1 = reduce add j in t vector { %0 = load %x[t*i + j] yield %0 } store %y[i], %1 } }",
    "kernel @softmax symbols(n, t) (in %x: f32[n*t], out %y: f32[n*t], out %s: f32[n]) {
       for i in n parallel {
         %1 = reduce max j in t vector { %0 = load %x[t*i + j] yield %0 }
         %5 = reduce add j in t vector { %2 = load %x[t*i + j] %3 = sub %2, %1 %4 = exp %3 yield %4 }
         %6 = div 1.0, %5
         for j in t vector { %7 = load %x[t*i + j] %8 = sub %7, %1 %9 = exp %8 %10 = mul %9, %6 store %y[t*i + j], %10 }
         %11 = log %5
         %12 = add %11, %1
         store %s[i], %12
       } }",
    "kernel @moments symbols(n, t) (in %x: f32[n*t], out %m: f32[n], out %v: f32[n], out %lo: f32[n]) {
       for i in n parallel {
         %1, %2, %3 = reduce add, add, min j in t vector { %0 = load %x[t*i + j] %4 = mul %0, %0 yield %0, %4, %0 }
         store %m[i], %1 store %v[i], %2 store %lo[i], %3
       } }",
    "kernel @count (in %x: f32[n], out %y: f32[1]) {
       for i in 1 parallel { %2 = reduce add j in n vector { %0 = load %x[j] %1 = lt 0.0, %0 yield %1 } store %y[i], %2 } }",
    "kernel @nested_sum symbols(n, t) (in %x: f32[6*n*t], out %y: f32[n]) {
       for i in n parallel {
         %3 = reduce add j in t { %1 = reduce add k in 6 vector { %0 = load %x[6*t*i + 6*j + k] yield %0 } yield %1 }
         store %y[i], %3
       } }",
];

/// Lanes over columns, each reduced in order.
pub(crate) const COLUMN_REDUCTIONS: &[&str] = &[
    "kernel @col_sum (in %x: f32[30*n], out %y: f32[30]) {
       for j in 30 parallel vector { %1 = reduce add i in n { %0 = load %x[j + 30*i] yield %0 } store %y[j], %1 } }",
    "kernel @col_two_level (in %x: f32[160*n], out %y: f32[10]) {
       for j in 10 parallel vector {
         %3 = reduce add i in n { %1 = reduce add k in 16 { %0 = load %x[j + 160*i + 10*k] yield %0 } yield %1 }
         store %y[j], %3
       } }",
    "kernel @bias_update (in %g: f32[19*n], in %lr: f32[1], inout %b: f32[19], inout %m: f32[19]) {
       for j in 19 parallel vector {
         %0 = load %b[j] %1 = load %m[j] %2 = load %lr[0]
         %4 = reduce add i in n { %3 = load %g[j + 19*i] yield %3 }
         %5 = mul %1, 0.9 %6 = mul %4, %2 %7 = sub %5, %6 %8 = add %0, %7 store %b[j], %8 store %m[j], %7
       } }",
    "kernel @weighted symbols(n, t) (in %x: f32[n*t], in %w: f32[n], in %c: f32[t], out %y: f32[t], out %z: f32[t]) {
       for j in t parallel vector {
         %4, %5 = reduce add, max i in n {
           %0 = load %x[j + t*i] %1 = load %w[i] %2 = load %c[j] %3 = mul %0, %1 %6 = add %3, %2 yield %6, %0
         }
         store %y[j], %4 store %z[j], %5
       } }",
    "kernel @channels (in %x: f32[24*n], out %y: f32[8]) {
       for j in 8 parallel { %2 = reduce add i in n { %0 = load %x[j + 24*i] %1 = load %x[j + 24*i + 8] %3 = add %0, %1 yield %3 } store %y[j], %2 } }",
];

/// Single iterations and control values.
pub(crate) const SCALARS: &[&str] = &[
    "kernel @scale (in %x: f32[n], out %y: f32[1]) {
       for i in 1 parallel { %0 = load %x[0] %1 = mul %0, 0.25 %2 = exp %1 store %y[0], %2 } }",
    "kernel @steps (in %c: u32[2], out %y: f32[3]) {
       for i in 1 parallel {
         %0 = load %c[1] %1 = from_u32 %0 %2 = add %1, 1.0 %3 = div 1.0, %2 %4 = load %c[0] %5 = random 1, %4, %0 [7]
         store %y[0], %2 store %y[1], %3 store %y[2], %5
       } }",
    "kernel @specials (out %y: f32[6]) {
       for i in 1 parallel {
         %0 = max nan, 1.0 %1 = min 2.0, nan %2 = sub inf, inf %3 = max %2, 0.0 %4 = sign %2 %5 = div 1.0, 0.0
         store %y[0], %0 store %y[1], %1 store %y[2], %2 store %y[3], %3 store %y[4], %4 store %y[5], %5
       } }",
];

/// `EXT` and `LEN` (one more) are replaced.
pub(crate) const CONSTANT_EXTENTS: &[&str] = &[
    "kernel @map (in %x: f32[LEN*n], out %y: f32[LEN*n]) {
       for i in n parallel { for j in EXT vector { %0 = load %x[LEN*i + j] %1 = mul %0, 3.0 store %y[LEN*i + j], %1 } } }",
    "kernel @flat (in %x: f32[LEN], out %y: f32[LEN]) {
       for j in EXT parallel vector { %0 = load %x[j + 1] %1 = mul %0, %0 store %y[j], %1 } }",
    "kernel @sum (in %x: f32[LEN*n], out %y: f32[n], out %z: f32[n]) {
       for i in n parallel {
         %1, %2 = reduce add, max j in EXT vector { %0 = load %x[LEN*i + j] yield %0, %0 } store %y[i], %1 store %z[i], %2
       } }",
    "kernel @ordered (in %x: f32[LEN*n], out %y: f32[n]) {
       for i in n parallel { %1 = reduce add j in EXT { %0 = load %x[LEN*i + j] yield %0 } store %y[i], %1 } }",
    "kernel @columns (in %x: f32[LEN*n], out %y: f32[LEN]) {
       for j in EXT parallel vector { %1 = reduce add i in n { %0 = load %x[j + LEN*i] yield %0 } store %y[j], %1 } }",
];
