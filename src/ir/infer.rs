//! Type inference: the result type of an operation from the types of its operands.
//!
//! User mistakes are found earlier, by `lower`, with Kurfile places; what is refused here is ill-formed IR.

use kur_runtime::dim::Dim;

use super::op::{ConvAttrs, Op, PoolAttrs};
use super::sequence;
use super::types::{DType, Type, broadcast};

/// The result type. `given` is the annotated type, needed by operations whose result does not follow from the operands.
///
/// # Errors
/// A phrase that says what does not fit.
pub fn infer(op: &Op, args: &[&Type], given: Option<&Type>) -> Result<Type, String> {
    let want = op.info().operands.len();
    if matches!(op, Op::Concat { .. }) && args.is_empty() {
        return Err("takes at least one operand".to_owned());
    }
    if args.len() != want && !matches!(op, Op::Concat { .. }) {
        return Err(format!("takes {want} operands, found {}", args.len()));
    }
    let counters = matches!(op, Op::Random { .. } | Op::Map(super::kernel::ScalarOp::FromU32));
    if let Some(bad) = args.iter().position(|t| (t.dtype == DType::U32) != counters) {
        return Err(format!("operand {bad} has the wrong element type"));
    }
    let need = || given.cloned().ok_or_else(|| "needs a result type".to_owned());
    match op {
        Op::Input { .. } | Op::State { .. } => need(),
        Op::Control(_) => Ok(Type::counter()),
        Op::Const(_) | Op::Size(_) => Ok(Type::scalar()),
        Op::Map(_) => {
            let mut shape = Vec::new();
            for t in args {
                shape = broadcast(&shape, &t.shape)
                    .map_err(|(axis, _, _)| format!("operand shapes do not broadcast at axis {axis} from the end"))?;
            }
            Ok(Type::f32(shape))
        }
        Op::Broadcast => {
            let to = need()?;
            match broadcast(&args[0].shape, &to.shape) {
                Ok(s) if s == to.shape => Ok(to),
                _ => Err("operand does not broadcast to the result".to_owned()),
            }
        }
        Op::Random { .. } => {
            if args.iter().any(|t| t.rank() != 0) {
                return Err("seed and updates are scalars".to_owned());
            }
            need()
        }
        Op::Reduce { axes, .. } => {
            let mut shape = args[0].shape.clone();
            if axes.is_empty() || axes.windows(2).any(|w| w[0] >= w[1]) {
                return Err("axes must be ascending and not empty".to_owned());
            }
            for a in axes {
                *shape.get_mut(*a).ok_or("axis out of range")? = Dim::ONE;
            }
            Ok(Type::f32(shape))
        }
        Op::Reshape => {
            let to = need()?;
            if to.len() != args[0].len() {
                return Err("operand and result have different numbers of elements".to_owned());
            }
            Ok(to)
        }
        Op::Transpose { perm } => {
            let mut seen = vec![false; args[0].rank()];
            if perm.len() != seen.len() {
                return Err("the permutation has the wrong length".to_owned());
            }
            for p in perm {
                match seen.get_mut(*p) {
                    Some(s) if !*s => *s = true,
                    _ => return Err("not a permutation".to_owned()),
                }
            }
            Ok(Type::f32(perm.iter().map(|p| args[0].shape[*p]).collect()))
        }
        Op::MatMul { ta, tb } => matmul(*ta, *tb, args[0], args[1]),
        Op::Conv(a) => conv(a, args[0], args[1]),
        Op::ConvGradInput(a) => {
            let to = need()?;
            let y = conv(a, &to, args[1])?;
            same(&y, args[0], "gy")?;
            Ok(to)
        }
        Op::ConvGradWeight(a) => {
            let to = need()?;
            let y = conv(a, args[0], &to)?;
            same(&y, args[1], "gy")?;
            Ok(to)
        }
        Op::Pool(a) => pool(a, args[0]),
        Op::PoolGrad(a) => {
            let y = pool(a, args[0])?;
            same(&y, args[1], "y")?;
            same(&y, args[2], "gy")?;
            Ok(args[0].clone())
        }
        Op::Softmax { .. } => match args[0].rank() {
            0 => Err("needs at least one axis".to_owned()),
            _ => Ok(args[0].clone()),
        },
        Op::Positions => match need()? {
            to if to.rank() == 1 => Ok(to),
            _ => Err("has one axis".to_owned()),
        },
        Op::ArgMax => {
            let mut shape = args[0].shape.clone();
            *shape.last_mut().ok_or("needs at least one axis")? = Dim::ONE;
            Ok(Type::f32(shape))
        }
        Op::Rnn(a) => sequence::rnn(a, args),
        Op::RnnGrad(a, of) => sequence::rnn_grad(a, *of, args),
        Op::RnnGradWeight(a) => sequence::rnn_grad_weight(a, args),
        Op::RnnGradBias(a) => sequence::rnn_grad_bias(a, args),
        Op::Part(p) => sequence::part(p, args[0]),
        Op::PartGrad(p) => {
            let to = need()?;
            same(&sequence::part(p, &to)?, args[0], "gy")?;
            Ok(to)
        }
        Op::Scan { .. } => {
            same(args[0], args[1], "b")?;
            sequence::steps(args[0])
        }
        Op::Shift { .. } => sequence::steps(args[0]),
        Op::Ctc { .. } => sequence::ctc(args),
        Op::CtcGrad { .. } => {
            same(&sequence::ctc(&args[..4])?, args[4], "g")?;
            Ok(args[0].clone())
        }
        Op::Lengths { window, stride } => {
            if window.len() != stride.len() || window.contains(&0) || stride.contains(&0) {
                return Err("needs as many strides as windows, all at least 1".to_owned());
            }
            Ok(args[0].clone())
        }
        Op::Concat { axis } => concat(*axis, args, given),
        Op::Slice { axis, start } => {
            let to = need()?;
            part(*axis, start, &to, args[0])?;
            Ok(to)
        }
        Op::Pad { axis, start } => {
            let to = need()?;
            part(*axis, start, args[0], &to)?;
            Ok(to)
        }
        Op::Gather => {
            let [_, width] = args[0].shape[..] else { return Err("the table must have two axes".to_owned()) };
            let mut shape = args[1].shape.clone();
            shape.push(width);
            constant_table(args[0])?;
            Ok(Type::f32(shape))
        }
        Op::GatherGrad => {
            let to = need()?;
            constant_table(&to)?;
            let mut gy = args[0].shape.clone();
            gy.extend(to.shape.last());
            same(&Type::f32(gy), args[1], "gy")?;
            Ok(to)
        }
    }
}

fn constant_table(t: &Type) -> Result<(), String> {
    let good = t.dtype == DType::F32 && t.rank() == 2 && t.shape.iter().all(|d| d.is_const());
    if good { Ok(()) } else { Err("the table must have two constant axes".to_owned()) }
}

/// The sizes of a sum brought together: equal monomials add up, zeros go away.
#[must_use]
pub fn sum_of(dims: &[Dim]) -> Vec<Dim> {
    let mut out: Vec<Dim> = Vec::new();
    for d in dims.iter().filter(|d| d.coef() != 0) {
        match out.iter_mut().find(|o| o.class() == d.class()) {
            Some(o) => *o = o.class().times(Dim::constant(o.coef().saturating_add(d.coef()))),
            None => out.push(*d),
        }
    }
    out.sort_unstable();
    out
}

/// Parts along an axis. A sum of different symbols is no monomial: then the annotation says which symbol it is.
fn concat(axis: usize, args: &[&Type], given: Option<&Type>) -> Result<Type, String> {
    let mut shape = args[0].shape.clone();
    if axis >= shape.len() {
        return Err("axis out of range".to_owned());
    }
    for t in args {
        let fits = t.rank() == shape.len() && (0..shape.len()).all(|a| a == axis || t.shape[a] == shape[a]);
        if !fits {
            return Err("operands differ in another axis".to_owned());
        }
    }
    let parts: Vec<Dim> = args.iter().map(|t| t.shape[axis]).collect();
    shape[axis] = match sum_of(&parts)[..] {
        [] => Dim::constant(0),
        [sum] => sum,
        _ => match given {
            Some(t) if t.rank() == shape.len() => t.shape[axis],
            _ => return Err("needs a result type".to_owned()),
        },
    };
    Ok(Type::f32(shape))
}

/// Whether `small` is a part of `large` along an axis, as far as constants tell.
fn part(axis: usize, start: &[Dim], small: &Type, large: &Type) -> Result<(), String> {
    if axis >= large.rank() {
        return Err("axis out of range".to_owned());
    }
    let fits = small.dtype == large.dtype
        && small.rank() == large.rank()
        && (0..large.rank()).all(|a| a == axis || small.shape[a] == large.shape[a]);
    if !fits {
        return Err("operand and result differ in another axis".to_owned());
    }
    let first = start.iter().try_fold(0u64, |sum, d| sum.checked_add(d.as_const()?));
    let end = first.zip(small.shape[axis].as_const()).and_then(|(a, b)| a.checked_add(b));
    match (end, large.shape[axis].as_const()) {
        (Some(end), Some(size)) if end > size => Err("the part reaches beyond the axis".to_owned()),
        _ => Ok(()),
    }
}

fn same(a: &Type, b: &Type, what: &str) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("{what} does not have the shape of the forward result")) }
}

fn matmul(ta: bool, tb: bool, a: &Type, b: &Type) -> Result<Type, String> {
    let r = a.rank();
    if r < 2 || b.rank() != r {
        return Err("operands must have the same rank of at least 2".to_owned());
    }
    if a.shape[..r - 2] != b.shape[..r - 2] {
        return Err("batch axes differ".to_owned());
    }
    let pick = |t: &Type, trans: bool| {
        let (x, y) = (t.shape[r - 2], t.shape[r - 1]);
        if trans { (y, x) } else { (x, y) }
    };
    let ((m, k1), (k2, n)) = (pick(a, ta), pick(b, tb));
    if k1 != k2 {
        return Err("inner sizes differ".to_owned());
    }
    let mut shape = a.shape[..r - 2].to_vec();
    shape.extend([m, n]);
    Ok(Type::f32(shape))
}

fn conv(attrs: &ConvAttrs, x: &Type, w: &Type) -> Result<Type, String> {
    let d = attrs.stride.len();
    if !(1..=3).contains(&d) || [attrs.pad.len(), attrs.dilation.len(), attrs.output.len()] != [d; 3] {
        return Err("attributes must have one to three entries each".to_owned());
    }
    if x.rank() != d + 2 || w.rank() != d + 2 {
        return Err(format!("operands must have rank {}", d + 2));
    }
    if attrs.stride.contains(&0) || attrs.dilation.contains(&0) {
        return Err("stride and dilation must be at least 1".to_owned());
    }
    let groups = Dim::constant(u64::from(attrs.groups));
    if x.shape[d + 1] != w.shape[d].times(groups) {
        return Err("input channels differ".to_owned());
    }
    if w.shape[d + 1].exact_div(groups).is_none() {
        return Err("groups must divide the output channels".to_owned());
    }
    if w.shape.iter().any(|s| !s.is_const()) || !x.shape[d + 1].is_const() {
        return Err("kernel sizes and channels must be constants".to_owned());
    }
    let mut shape = vec![x.shape[0]];
    shape.extend(&attrs.output);
    shape.push(w.shape[d + 1]);
    Ok(Type::f32(shape))
}

fn pool(attrs: &PoolAttrs, x: &Type) -> Result<Type, String> {
    let d = attrs.stride.len();
    if !(1..=3).contains(&d) || [attrs.pad.len(), attrs.window.len(), attrs.output.len()] != [d; 3] {
        return Err("attributes must have one to three entries each".to_owned());
    }
    if x.rank() != d + 2 {
        return Err(format!("the operand must have rank {}", d + 2));
    }
    if attrs.stride.contains(&0) || attrs.window.contains(&0) {
        return Err("stride and window must be at least 1".to_owned());
    }
    let mut shape = vec![x.shape[0]];
    shape.extend(&attrs.output);
    shape.push(x.shape[d + 1]);
    Ok(Type::f32(shape))
}
