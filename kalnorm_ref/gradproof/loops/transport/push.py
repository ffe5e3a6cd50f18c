"""What a normalizer sends on, through s = (v + eps)^(1/2) step by step.

tm = beta + gamma z ,  z = 0 for a belief and (xbar - mu)/s for what was observed ;  tv = gamma^2 w / s^2 ,  w = v or S.
"""

from ..parts import add, at, each, planter, sqrt, zeros

MISTAKES = {
    "push": "r_fourth_forgotten eps_term_dropped two_forgotten half_forgotten mean_to_gamma_dropped sign_flipped",
}


def push(mode, estimate, observed, gamma, beta, eps=1e-5):
    mean, var = zeros(estimate)
    for (*batch, c), mu, v in each(estimate):
        here, g, s = (*batch, c), at(gamma, batch, c), sqrt(v + eps)
        if mode == "released":
            mean[here], var[here] = mu, v
            continue
        xbar, width = (mu, v) if mode == "belief" else (at(t, batch, c) for t in observed)
        mean[here], var[here] = at(beta, batch, c, default=0.0) + g * ((xbar - mu) / s), width * (g / s) ** 2
    return mean, var


def push_backward(doutput, mode, estimate, observed, gamma, beta, eps=1e-5, mistake=None):
    fault = planter(mistake)
    destimate, dobserved, dgamma, dbeta = map(zeros, (estimate, observed, gamma, beta))
    for (*batch, c), mu, v in each(estimate):
        dtm, dtv = (at(d, batch, c) for d in doutput)
        if mode == "released":
            add(destimate[0], batch, c, fault(dtm, sign_flipped=-dtm))
            add(destimate[1], batch, c, dtv)
            continue
        g, s = at(gamma, batch, c), sqrt(v + eps)
        add(dbeta, batch, c, dtm)
        two = fault(2.0, two_forgotten=1.0)
        if mode == "belief":
            add(dgamma, batch, c, two * g * v / s**2 * dtv)
            shrink = eps / s ** fault(4, r_fourth_forgotten=2)
            add(destimate[1], batch, c, g**2 * fault(shrink, eps_term_dropped=0.0, sign_flipped=-shrink) * dtv)
            continue
        xbar, width = (at(t, batch, c) for t in observed)
        z = (xbar - mu) / s
        add(dgamma, batch, c, fault(z, mean_to_gamma_dropped=0.0) * dtm + two * g * width / s**2 * dtv)
        add(dobserved[0], batch, c, g / s * dtm)
        add(dobserved[1], batch, c, g**2 / s**2 * dtv)
        add(destimate[0], batch, c, fault(-1, sign_flipped=1) * g / s * dtm)
        dwidth = -(g**2) * width / s ** fault(4, r_fourth_forgotten=2) * dtv
        add(destimate[1], batch, c, dwidth - g * z * dtm / (fault(2, half_forgotten=1) * s**2))
    return destimate, dobserved, dgamma, dbeta
